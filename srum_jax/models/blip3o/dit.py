"""The diffusion transformer over picture features: Lumina-Next's, with cross-attention to the condition.

B rows · T features of a picture · Q condition tokens · D width · N heads · H head width · M modulation width
"""


import jax
import jax.numpy as jnp
from flax import nnx

from srum_jax.models.blip3o.feature_config import DiTConfig
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.layer_stack import run_layers
from srum_jax.models.layers.linear import Linear
from srum_jax.models.layers.logical_axes import ROWS, constrain
from srum_jax.models.layers.norm import LayerNorm, RMSNorm
from srum_jax.models.layers.parameter import parameter, zeros
from srum_jax.models.layers.rope import RotaryAngles
from srum_jax.models.layers.tap import Tap, no_tap
from srum_jax.models.layers.timestep_embedding import timestep_features

_TIME_FEATURES = 256
_THETA = 10000.0
_QK_EPS = 1e-5
_OUT_EPS = 1e-6



def grid_angles(grid: int, head_dim: int) -> RotaryAngles:
    """Angles of features row by row; those of rows and columns take turns. Float32 [1, T, 1, H / 2]."""
    frequency = _THETA ** (-4.0 * jnp.arange(head_dim // 4, dtype=jnp.float32) / head_dim)
    place = jnp.stack(jnp.meshgrid(jnp.arange(grid), jnp.arange(grid), indexing="ij"), axis=-1).reshape(-1, 1, 2)
    angle = place.astype(jnp.float32) * frequency[None, :, None]
    angle = angle.reshape(1, grid * grid, 1, head_dim // 2)
    return RotaryAngles(jnp.cos(angle), jnp.sin(angle))


def rotate_neighbours(x: jax.Array, angles: RotaryAngles) -> jax.Array:
    """Turns each pair (x[2j], x[2j + 1]) by its angle; computed in float32. [B, T, N, H]."""
    first, second = x[..., ::2].astype(jnp.float32), x[..., 1::2].astype(jnp.float32)
    turned = (first * angles.cos - second * angles.sin, first * angles.sin + second * angles.cos)
    return jnp.stack(turned, axis=-1).reshape(x.shape).astype(x.dtype)


class DiTLayer(nnx.Module):
    """One layer, or the stacked parameters of all of them. Both attentions share one map to the stream."""

    def __init__(self, config: DiTConfig, *, rngs: nnx.Rngs, stack: tuple[int, ...] = ()):
        width, hidden = config.width, config.mlp_width

        def linear(in_features: int, out_features: int, axes: tuple[str, str], use_bias: bool = False) -> Linear:
            return Linear(in_features, out_features, rngs=rngs, axes=axes, use_bias=use_bias, stack=stack)

        def projection() -> Linear:
            return linear(width, width, ("embed_in", "heads_out"))

        def head_norm() -> LayerNorm:
            return LayerNorm(width, _QK_EPS, rngs=rngs, stack=stack)

        def norm() -> RMSNorm:
            return RMSNorm(width, config.norm_eps, rngs=rngs, stack=stack)

        self.modulation = linear(config.modulation_width, 4 * width, ("embed_in", "embed_out"), use_bias=True)
        self.attention_norm, self.context_norm, self.attention_out_norm = norm(), norm(), norm()
        self.mlp_norm, self.mlp_out_norm = norm(), norm()
        self.self_query, self.self_key, self.self_value = (projection() for _ in range(3))
        self.self_query_norm, self.self_key_norm = head_norm(), head_norm()
        self.cross_query, self.cross_key, self.cross_value = (projection() for _ in range(3))
        self.cross_query_norm, self.cross_key_norm = head_norm(), head_norm()
        self.cross_gate = parameter(zeros, (config.num_heads,), ("norm",), rngs=rngs, stack=stack)
        self.out = linear(width, width, ("heads_in", "embed_out"))
        self.gate = linear(width, hidden, ("embed_in", "mlp_out"))
        self.up = linear(width, hidden, ("embed_in", "mlp_out"))
        self.down = linear(hidden, width, ("mlp_in", "embed_out"))
        self.head_dim = config.head_dim

    def __call__(self, x: jax.Array, condition: jax.Array, modulation: jax.Array, rotary: RotaryAngles) -> jax.Array:
        """The stream [B, T, D], given the condition [B, Q, D] and what scales and gates come from, [B, 1, M]."""
        scale, gate, mlp_scale, mlp_gate = jnp.split(self.modulation(modulation), 4, axis=-1)
        y, context = self.attention_norm(x) * (1 + scale), self.context_norm(condition)

        def heads(values: jax.Array) -> jax.Array:
            return values.reshape(*values.shape[:-1], -1, self.head_dim)

        seen = jax.nn.dot_product_attention(
            rotate_neighbours(heads(self.self_query_norm(self.self_query(y))), rotary),
            rotate_neighbours(heads(self.self_key_norm(self.self_key(y))), rotary),
            heads(self.self_value(y)),
        )
        # The keys of the condition are not rotated.
        asked = jax.nn.dot_product_attention(
            rotate_neighbours(heads(self.cross_query_norm(self.cross_query(y))), rotary),
            heads(self.cross_key_norm(self.cross_key(context))), heads(self.cross_value(context)),
        )
        share = jnp.tanh(self.cross_gate[...].astype(x.dtype))[None, None, :, None]
        attended = self.out((seen + share * asked).reshape(x.shape))
        x = constrain(x + jnp.tanh(gate) * self.attention_out_norm(attended), ROWS)
        y = self.mlp_norm(x) * (1 + mlp_scale)
        branch = self.down(jax.nn.silu(self.gate(y)) * self.up(y))
        return constrain(x + jnp.tanh(mlp_gate) * self.mlp_out_norm(branch), ROWS)


class DiT(nnx.Module):
    """Predicts the velocity of noisy features."""

    def __init__(self, config: DiTConfig, *, rngs: nnx.Rngs):
        def linear(in_features: int, out_features: int) -> Linear:
            return Linear(in_features, out_features, rngs=rngs, axes=("embed_in", "embed_out"))

        width, modulation = config.width, config.modulation_width
        self.patch_embed = linear(config.channels, width)
        self.condition_fc1, self.condition_fc2 = linear(config.condition_width, width), linear(width, width)
        self.time_fc1, self.time_fc2 = linear(_TIME_FEATURES, modulation), linear(modulation, modulation)
        self.pooled_norm = LayerNorm(width, _QK_EPS, rngs=rngs)
        self.pooled = linear(width, modulation)
        self.layers = DiTLayer(config, rngs=rngs, stack=(config.num_layers,))
        self.out_scale, self.out = linear(modulation, width), linear(width, config.channels)
        self.config = config

    def __call__(
        self, features: jax.Array, timestep: jax.Array, condition: jax.Array, compute: ComputeConfig,
        tap: Tap = no_tap,
    ) -> jax.Array:
        """The velocity, noise less features.

        Args:
          features: float32 [B, G, G, C], noisy.
          timestep: float32 [B], from 0 (clean) to 1000 (noise).
          condition: [B, Q, width of the language model]; zeros where there is none.
          compute: precision, remat.
          tap: called with "patch_embedder", "caption_projection", "time_caption_embed", "layer" after each layer and
            "norm_out"; needs an unscanned, unrematerialised model.

        Returns:
          [B, G, G, C] in the compute dtype.
        """
        dtype = compute.compute_dtype
        x = self.patch_embed(features.astype(dtype).reshape(len(features), -1, self.config.channels))
        condition = self.condition_fc2(jax.nn.gelu(self.condition_fc1(condition.astype(dtype)), approximate=True))
        time = self.time_fc2(jax.nn.silu(self.time_fc1(timestep_features(timestep, _TIME_FEATURES).astype(dtype))))
        vector = time + self.pooled(self.pooled_norm(jnp.mean(condition, axis=1)))
        modulation = jax.nn.silu(vector)[:, None]
        rotary = grid_angles(self.config.grid, self.config.head_dim)
        tap("patch_embedder", x)
        tap("caption_projection", condition)
        tap("time_caption_embed", vector)
        x = run_layers(
            self.layers, lambda layer, x: layer(x, condition, modulation, rotary), constrain(x, ROWS),
            num_layers=self.config.num_layers, compute=compute,
            after_each=None if tap is no_tap else lambda x: tap("layer", x),
        )
        x = self.out(_normalised(x) * (1 + self.out_scale(modulation)))
        tap("norm_out", x)
        return x.reshape(features.shape)


def _normalised(x: jax.Array) -> jax.Array:
    x32 = x.astype(jnp.float32)
    mean = jnp.mean(x32, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(x32 - mean), axis=-1, keepdims=True)
    return ((x32 - mean) * jax.lax.rsqrt(variance + _OUT_EPS)).astype(x.dtype)
