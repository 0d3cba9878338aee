"""The vision tower: SigLIP over packed patches of several images.

B rows · C patches · D width
"""

import functools

import jax
from flax import nnx

from srum_jax.models.bagel.config import VisionConfig
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.attention import Attention
from srum_jax.models.layers.layer_stack import run_layers
from srum_jax.models.layers.linear import Embedding, Linear
from srum_jax.models.layers.norm import LayerNorm
from srum_jax.models.layers.siglip import SiglipLayer
from srum_jax.models.layers.tap import Tap, no_tap


class VisionTower(nnx.Module):
    """Patch embedding, learned positions, encoder layers, final norm."""

    def __init__(self, config: VisionConfig, *, rngs: nnx.Rngs):
        self.patch_embed = Linear(config.patch_values, config.hidden_size, rngs=rngs)
        self.position_embed = Embedding(config.num_positions, config.hidden_size, rngs=rngs)
        self.layers = SiglipLayer(config, tanh=True, rngs=rngs, stack=(config.num_layers,))
        self.post_norm = LayerNorm(config.hidden_size, config.layer_norm_eps, rngs=rngs)
        self.num_layers = config.num_layers

    def __call__(
        self, patches: jax.Array, position_ids: jax.Array, attention: Attention, compute: ComputeConfig,
        tap: Tap = no_tap,
    ) -> jax.Array:
        """Encodes packed patches.

        Args:
          patches: [B, C, patch values], pixels in [-1, 1].
          position_ids: int32 [B, C], rows of the learned table.
          attention: full within an image, blocked between images.
          compute: remat policy, and whether to scan.
          tap: called with "vit_layer" after each layer; needs `compute.scan_layers` False.

        Returns:
          [B, C, D], after the final norm.
        """
        x = run_layers(
            self.layers, lambda layer, x: layer(x, attention),
            self.patch_embed(patches) + self.position_embed(position_ids, patches.dtype), num_layers=self.num_layers,
            compute=compute, after_each=None if tap is no_tap else functools.partial(tap, "vit_layer"),
        )
        return self.post_norm(x)


class Connector(nnx.Module):
    """Two linear maps from the tower's width to the language model's."""

    def __init__(self, in_features: int, out_features: int, *, rngs: nnx.Rngs):
        self.fc1 = Linear(in_features, out_features, rngs=rngs)
        self.fc2 = Linear(out_features, out_features, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., in] to [..., out]."""
        return self.fc2(jax.nn.gelu(self.fc1(x), approximate=True))
