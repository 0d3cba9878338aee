"""The pixel decoder's U-Net: SDXL's, with picture features in the place of text. Latents are [B, H, W, C].

B rows · N tokens of the condition · T pixels of a map · C channels
"""


import jax
import jax.numpy as jnp
from flax import nnx

from srum_jax.models.blip3o.pixel_config import UNetConfig
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.autoencoder_blocks import SAME, ResidualBlock, doubled
from srum_jax.models.layers.layer_stack import run_layers
from srum_jax.models.layers.linear import Conv, Linear
from srum_jax.models.layers.norm import GroupNorm, LayerNorm
from srum_jax.models.layers.tap import Tap, no_tap
from srum_jax.models.layers.timestep_embedding import timestep_features

_TRANSFORMER_EPS = 1e-6  # of the GroupNorm before a transformer
_TOKEN_EPS = 1e-5



class CrossBlock(nnx.Module):
    """Self-attention, cross-attention and a gated MLP, or the stacked parameters of several."""

    def __init__(
        self, width: int, condition_width: int, num_heads: int, *, rngs: nnx.Rngs, stack: tuple[int, ...],
    ):
        def linear(in_features: int, out_features: int, axes: tuple[str, str], use_bias: bool = True) -> Linear:
            return Linear(in_features, out_features, rngs=rngs, axes=axes, use_bias=use_bias, stack=stack)

        def heads(in_features: int) -> Linear:
            return linear(in_features, width, ("embed_in", "heads_out"), use_bias=False)

        self.norm1, self.norm2, self.norm3 = (
            LayerNorm(width, _TOKEN_EPS, rngs=rngs, stack=stack) for _ in range(3))
        self.self_query, self.self_key, self.self_value = (heads(width) for _ in range(3))
        self.self_out = linear(width, width, ("heads_in", "embed_out"))
        self.cross_query = heads(width)
        self.cross_key, self.cross_value = heads(condition_width), heads(condition_width)
        self.cross_out = linear(width, width, ("heads_in", "embed_out"))
        self.fc1 = linear(width, 8 * width, ("embed_in", "mlp_out"))  # values and gates, side by side
        self.fc2 = linear(4 * width, width, ("mlp_in", "embed_out"))
        self.num_heads = num_heads

    def __call__(self, x: jax.Array, condition: jax.Array) -> jax.Array:
        """[B, T, C] to [B, T, C], given the condition [B, N, width of the features]."""
        normed = self.norm1(x)
        x = x + self.self_out(self._attended(
            self.self_query(normed), self.self_key(normed), self.self_value(normed)))
        x = x + self.cross_out(self._attended(
            self.cross_query(self.norm2(x)), self.cross_key(condition), self.cross_value(condition)))
        value, gate = jnp.split(self.fc1(self.norm3(x)), 2, axis=-1)
        return x + self.fc2(value * jax.nn.gelu(gate, approximate=False))

    def _attended(self, *projected: jax.Array) -> jax.Array:
        query, key, value = (x.reshape(*x.shape[:-1], self.num_heads, -1) for x in projected)
        return jax.nn.dot_product_attention(query, key, value).reshape(projected[0].shape)


class Transformer(nnx.Module):
    """A map's pixels as tokens."""

    def __init__(
        self, width: int, condition_width: int, num_heads: int, depth: int, num_groups: int, *, rngs: nnx.Rngs,
    ):
        self.norm = GroupNorm(width, _TRANSFORMER_EPS, rngs=rngs, num_groups=num_groups)
        self.proj_in, self.proj_out = (Linear(width, width, rngs=rngs) for _ in range(2))
        self.blocks = CrossBlock(width, condition_width, num_heads, rngs=rngs, stack=(depth,))
        self.depth = depth

    def __call__(self, x: jax.Array, condition: jax.Array, compute: ComputeConfig) -> jax.Array:
        """[B, H, W, C] to [B, H, W, C]."""
        tokens = self.proj_in(self.norm(x).reshape(x.shape[0], -1, x.shape[-1]))
        tokens = run_layers(
            self.blocks, lambda block, tokens: block(tokens, condition), tokens, num_layers=self.depth, compute=compute
        )
        return x + self.proj_out(tokens).reshape(x.shape)


class UNetLevel(nnx.Module):
    """Residual blocks of one resolution, each with its transformer where there are any, and the change to the next."""

    def __init__(
        self, config: UNetConfig, level: int, inputs: list[int], *, down: bool = False, up: bool = False,
        transformers: int | None = None, rngs: nnx.Rngs,
    ):
        """Builds a level.

        Args:
          config: of the U-Net.
          level: counted from the finest.
          inputs: channels that each residual block takes.
          down: whether a convolution of stride 2 follows.
          up: whether doubling the size follows.
          transformers: how many residual blocks, from the first, a transformer follows; None means all, on levels that
            have any.
          rngs: source of random numbers.
        """
        width, depth = config.widths[level], config.transformer_depth[level]
        count = (len(inputs) if depth else 0) if transformers is None else transformers
        self.block = nnx.List(
            ResidualBlock(i, width, rngs=rngs, num_groups=config.norm_groups, eps=config.norm_eps,
                          time_width=config.time_width)
            for i in inputs
        )
        self.transformer = nnx.List(
            Transformer(width, config.condition_width, config.num_heads[level], depth, config.norm_groups, rngs=rngs)
            for _ in range(count)
        )
        self.downsample = Conv(width, width, 3, rngs=rngs, stride=2, padding=SAME) if down else None
        self.upsample = Conv(width, width, 3, rngs=rngs, padding=SAME) if up else None

    def __call__(
        self, x: jax.Array, time: jax.Array, condition: jax.Array, compute: ComputeConfig,
        skips: list[jax.Array] | None = None,
    ) -> list[jax.Array]:
        """What every block gives, then the map for the next level if it is of another size.

        Args:
          x: [B, H, W, in].
          time: [B, time_width].
          condition: [B, N, width of the features].
          compute: precision.
          skips: maps that are joined to the blocks' inputs, taken from the end.
        """
        maps = []
        for number, block in enumerate(self.block):
            x = block(x if skips is None else jnp.concatenate([x, skips.pop()], axis=-1), time)
            if number < len(self.transformer):
                x = self.transformer[number](x, condition, compute)
            maps.append(x)
        if self.downsample is not None:
            maps.append(self.downsample(x))
        if self.upsample is not None:
            maps.append(self.upsample(doubled(x)))
        return maps


class Embedder(nnx.Module):
    """Features of a number to the width of the time's embedding."""

    def __init__(self, in_features: int, width: int, *, rngs: nnx.Rngs):
        self.fc1 = Linear(in_features, width, rngs=rngs)
        self.fc2 = Linear(width, width, rngs=rngs)

    def __call__(self, features: jax.Array) -> jax.Array:
        """[B, in] to [B, width]."""
        return self.fc2(jax.nn.silu(self.fc1(features)))


class UNet(nnx.Module):
    """Predicts the noise in latents."""

    def __init__(self, config: UNetConfig, *, rngs: nnx.Rngs):
        widths, last = config.widths, len(config.widths) - 1
        self.conv_in = Conv(config.in_channels, widths[0], 3, rngs=rngs, padding=SAME)
        self.time = Embedder(widths[0], config.time_width, rngs=rngs)
        self.addition = Embedder(config.condition_width + 6 * config.size_features, config.time_width, rngs=rngs)
        down, skips = [], [widths[0]]
        for level, width in enumerate(widths):
            inputs = [skips[-1]] + [width] * (config.layers_per_block - 1)
            down.append(UNetLevel(config, level, inputs, down=level < last, rngs=rngs))
            skips += [width] * (config.layers_per_block + (level < last))
        self.down = nnx.List(down)
        self.mid = UNetLevel(config, last, [widths[last]] * 2, transformers=1, rngs=rngs)
        up, x = [], widths[last]
        for level in range(last, -1, -1):  # as they are numbered in the published file, the coarsest first
            before = [x] + [widths[level]] * config.layers_per_block
            inputs = [channels + skips.pop() for channels in before]
            up.append(UNetLevel(config, level, inputs, up=level > 0, rngs=rngs))
            x = widths[level]
        self.up = nnx.List(up)
        self.norm_out = GroupNorm(widths[0], config.norm_eps, rngs=rngs, num_groups=config.norm_groups)
        self.conv_out = Conv(widths[0], config.out_channels, 3, rngs=rngs, padding=SAME)
        self.config = config

    def __call__(
        self, latent: jax.Array, timestep: jax.Array, condition: jax.Array, size: jax.Array, compute: ComputeConfig,
        tap: Tap = no_tap,
    ) -> jax.Array:
        """The noise in latents.

        Args:
          latent: float32 [B, H, W, 4], divided by sqrt(sigma^2 + 1).
          timestep: float32 [], from 0 to 999.
          condition: [B, N, width of the features].
          size: [B, 6], pixels: height and width of the original, top and left of the cut, height and width to draw.
          compute: precision.
          tap: called with "conv_in", "time_embedding", "add_embedding", "down" and "up" after each level, "mid".

        Returns:
          float32 [B, H, W, 4].
        """
        dtype, config = compute.compute_dtype, self.config
        condition = condition.astype(dtype)
        of_time = self.time(timestep_features(
            jnp.broadcast_to(timestep, (len(latent),)), config.widths[0]).astype(dtype))
        of_size = timestep_features(size, config.size_features).reshape(len(latent), -1).astype(dtype)
        of_condition = self.addition(jnp.concatenate([jnp.mean(condition, axis=1), of_size], axis=-1))
        time = of_time + of_condition
        skips = [self.conv_in(latent.astype(dtype))]
        for name, x in (("time_embedding", of_time), ("add_embedding", of_condition), ("conv_in", skips[0])):
            tap(name, x)
        for level in self.down:
            skips += level(skips[-1], time, condition, compute)
            tap("down", skips[-1])
        x = self.mid(skips[-1], time, condition, compute)[-1]
        tap("mid", x)
        for level in self.up:
            x = level(x, time, condition, compute, skips)[-1]
            tap("up", x)
        return self.conv_out(jax.nn.silu(self.norm_out(x))).astype(jnp.float32)
