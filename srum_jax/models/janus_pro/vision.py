"""How pictures are read: a SigLIP tower, and the maps between it and the language model."""


import jax
import jax.numpy as jnp
from flax import nnx

from srum_jax.models.compute import ComputeConfig
from srum_jax.models.janus_pro.config import VisionConfig
from srum_jax.models.layers.layer_stack import run_layers
from srum_jax.models.layers.linear import Conv, Embedding, Linear
from srum_jax.models.layers.norm import LayerNorm
from srum_jax.models.layers.siglip import SiglipLayer
from srum_jax.models.layers.tap import Tap, no_tap


class VisionTower(nnx.Module):
    """Patch embedding, learned positions, encoder layers, final norm; the pooling head of the files is not used."""

    def __init__(self, config: VisionConfig, *, rngs: nnx.Rngs):
        self.patch_embed = Conv(3, config.hidden_size, config.patch_size, stride=config.patch_size, rngs=rngs)
        self.position_embed = Embedding(config.num_tokens, config.hidden_size, rngs=rngs)
        self.layers = SiglipLayer(config, tanh=False, rngs=rngs, stack=(config.num_layers,))
        self.post_norm = LayerNorm(config.hidden_size, config.layer_norm_eps, rngs=rngs)
        self.config = config

    def __call__(self, pictures: jax.Array, compute: ComputeConfig, tap: Tap = no_tap) -> jax.Array:
        """Reads pictures.

        Args:
          pictures: float32 [N, S, S, 3] in [-1, 1], of the size that the positions are for.
          compute: precision, remat.
          tap: called with "patch_embed", "embeddings", and "block" after each layer; needs an unscanned,
            unrematerialised model.

        Returns:
          [N, T, width], a token for each patch, row by row.
        """
        x = self.patch_embed(pictures.astype(compute.compute_dtype))
        x = x.reshape(len(pictures), -1, self.config.hidden_size)
        tap("patch_embed", x)
        x = x + self.position_embed(jnp.arange(self.config.num_tokens), x.dtype)[None]
        tap("embeddings", x)
        x = run_layers(
            self.layers, lambda layer, x: layer(x, jax.nn.dot_product_attention), x,
            num_layers=self.config.num_layers, compute=compute,
            after_each=None if tap is no_tap else lambda x: tap("block", x),
        )
        return self.post_norm(x)


class Aligner(nnx.Module):
    """Linear maps to the language model's width, with GELU between them."""

    def __init__(self, in_features: int, out_features: int, depth: int, *, rngs: nnx.Rngs):
        self.maps = nnx.List(
            Linear(in_features if number == 0 else out_features, out_features, rngs=rngs)
            for number in range(depth)
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., in] to [..., out]."""
        x = self.maps[0](x)
        for linear in self.maps[1:]:
            x = linear(jax.nn.gelu(x, approximate=False))
        return x
