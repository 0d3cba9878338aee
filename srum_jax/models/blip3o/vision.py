"""The tower that reads pictures: Qwen2.5-VL's, with attention inside windows in all layers but a few.

The patches of a picture lie window by window, every window in as many slots as a whole one has; see `patches.py`.

N pictures · P slots = windows x slots of a window · T tokens of the language model · D width
"""


import jax
import jax.numpy as jnp
from flax import nnx

from srum_jax.models.blip3o.config import VisionConfig
from srum_jax.models.blip3o.patches import Pictures
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.attention import Attention, make_attention
from srum_jax.models.layers.layer_stack import run_layers
from srum_jax.models.layers.linear import Linear
from srum_jax.models.layers.norm import RMSNorm
from srum_jax.models.layers.parameter import along_last, normal, parameter
from srum_jax.models.layers.rope import RotaryAngles, rotate
from srum_jax.models.layers.tap import Tap, no_tap
from srum_jax.models.layers.token_stream import TokenStream

_THETA = 10000.0


def patch_angles(position: jax.Array, head_dim: int) -> jax.Array:
    """Angles of a patch's row, then of its column, at the same frequencies: int32 [..., 2] to float32 [..., H / 2]."""
    frequency = _THETA ** (-4.0 * jnp.arange(head_dim // 4, dtype=jnp.float32) / head_dim)
    position = position.astype(jnp.float32)[..., None]
    angle = position * along_last(frequency, position)
    return angle.reshape(*position.shape[:-2], head_dim // 2)


class PatchEmbedding(nnx.Module):
    """A linear map of whole patches, stored as the convolution that it is."""

    def __init__(self, config: VisionConfig, *, rngs: nnx.Rngs):
        shape = (config.num_channels, config.temporal_patch_size, config.patch_size, config.patch_size)
        self.kernel = parameter(normal, (*shape, config.hidden_size), ("conv",) * 5, rngs=rngs)

    def __call__(self, patches: jax.Array) -> jax.Array:
        """Flattened patches [..., values] to [..., D]."""
        kernel = self.kernel[...].astype(patches.dtype)
        return patches @ kernel.reshape(-1, kernel.shape[-1])


class VisionLayer(nnx.Module):
    """One pre-norm encoder layer, or the stacked parameters of all of them."""

    def __init__(self, config: VisionConfig, *, rngs: nnx.Rngs, stack: tuple[int, ...] = ()):
        def linear(in_features: int, out_features: int) -> Linear:
            return Linear(in_features, out_features, rngs=rngs, stack=stack)

        width, hidden = config.hidden_size, config.intermediate_size
        self.norm1 = RMSNorm(width, config.norm_eps, rngs=rngs, stack=stack)
        self.norm2 = RMSNorm(width, config.norm_eps, rngs=rngs, stack=stack)
        self.qkv = linear(width, 3 * width)
        self.out = linear(width, width)
        self.gate, self.up, self.down = linear(width, hidden), linear(width, hidden), linear(hidden, width)
        self.num_heads = config.num_heads

    def __call__(self, x: jax.Array, rotary: RotaryAngles, attention: Attention) -> jax.Array:
        """[N, P, D] to [N, P, D]."""
        heads = self.qkv(self.norm1(x)).reshape(*x.shape[:-1], 3, self.num_heads, -1)
        query, key, value = (heads[..., i, :, :] for i in range(3))
        x = x + self.out(attention(rotate(query, rotary), rotate(key, rotary), value).reshape(x.shape))
        normed = self.norm2(x)
        return x + self.down(jax.nn.silu(self.gate(normed)) * self.up(normed))


class Merger(nnx.Module):
    """Every group of patches to one token of the language model."""

    def __init__(self, config: VisionConfig, *, rngs: nnx.Rngs):
        group = config.merge_size**2 * config.hidden_size
        self.norm = RMSNorm(config.hidden_size, config.norm_eps, rngs=rngs)
        self.fc1 = Linear(group, group, rngs=rngs)
        self.fc2 = Linear(group, config.out_hidden_size, rngs=rngs)
        self.group = config.merge_size**2

    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, P, D] to [N, P / 4, width of the language model]; the patches of a group lie side by side."""
        grouped = self.norm(x).reshape(x.shape[0], x.shape[1] // self.group, -1)
        return self.fc2(jax.nn.gelu(self.fc1(grouped), approximate=False))


class VisionTower(nnx.Module):
    """Patch embedding, encoder layers, merger."""

    def __init__(self, config: VisionConfig, *, rngs: nnx.Rngs):
        self.patch_embed = PatchEmbedding(config, rngs=rngs)
        self.layers = VisionLayer(config, rngs=rngs, stack=(config.num_layers,))
        self.merger = Merger(config, rngs=rngs)
        self.config = config

    def __call__(
        self, pictures: Pictures, compute: ComputeConfig, tap: Tap = no_tap
    ) -> jax.Array:
        """Reads pictures.

        Args:
          pictures: patches in the layout of windows.
          compute: precision, attention route, remat.
          tap: called with "patch_embed", "block" after each layer and "merger", all in the layout of windows; needs an
            unscanned, unrematerialised model.

        Returns:
          [N, T, width of the language model]: the tokens of each picture row by row, then whatever padding holds.
        """
        config = self.config
        angle = patch_angles(pictures.position, config.head_dim)[:, :, None, :]
        rotary = RotaryAngles(jnp.cos(angle), jnp.sin(angle))
        everywhere = _whole_picture(pictures.real, compute)
        windowed = _inside_windows(pictures.real, config.window_tokens**2 * config.merge_size**2)
        is_full = jnp.zeros(config.num_layers, bool).at[jnp.asarray(config.full_attention_layers, int)].set(True)

        def layer(layer: VisionLayer, stream: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            x, number = stream

            def attention(*heads: jax.Array) -> jax.Array:
                return jax.lax.cond(is_full[number], everywhere, windowed, *heads)

            return layer(x, rotary, attention), number + 1

        x = self.patch_embed(pictures.patches.astype(compute.compute_dtype))
        tap("patch_embed", x)
        x, _ = run_layers(
            self.layers, layer, (x, jnp.zeros((), jnp.int32)), num_layers=config.num_layers, compute=compute,
            after_each=None if tap is no_tap else lambda stream: tap("block", stream[0]),
        )
        merged = self.merger(x)
        tap("merger", merged)
        return jnp.take_along_axis(merged, pictures.token[..., None], axis=1)


def _whole_picture(real: jax.Array, compute: ComputeConfig) -> Attention:
    zeros = jnp.zeros(real.shape, jnp.int32)
    number = jnp.where(real, 0, -1)
    tokens = TokenStream(sample=number, split=number, order=zeros, full=zeros + 1, noise=zeros, position=zeros)
    # Splash wants heads of a multiple of 128 values; the tower's have 80.
    route = "chunked" if compute.attention == "splash" else compute.attention
    return make_attention(tokens, tokens, route, compute.attention_block)


def _inside_windows(real: jax.Array, slots: int) -> Attention:
    windows = real.reshape(-1, slots)
    # Padding sees padding, so that no row of the mask is empty.
    mask = (windows[:, None, :, None] == windows[:, None, None, :])

    def attention(*heads: jax.Array) -> jax.Array:
        shape = heads[0].shape
        per_window = (x.reshape(-1, slots, *x.shape[2:]) for x in heads)
        return jax.nn.dot_product_attention(*per_window, mask=mask).reshape(shape)

    return attention
