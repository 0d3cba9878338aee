"""Trains the tiny autoencoder: crisp pictures out of few numbers, even out of slightly wrong ones.

The encoder's means m get noise of a random strength before they are decoded, and their size is penalised, so the code
spreads over the room it has and pictures that differ lie far apart in it. A decoder then takes what a generator draws
nearly right to the picture that is right; the absolute error, whose optimum is a median, keeps edges sharp.

    loss = mean w |decode(m + s eps) - picture| + penalty * mean m^2,    s uniform in [0, strongest_noise]

The weight w is higher on objects than on the background, and drawn objects have textures more often than in the world's
own pictures, or the code would leave out what is rare.

Two stages. First the encoder, together with a throw-away decoder that works at the resolution of the latents and is
therefore fast; then, with the encoder fixed, the decoder that is stored. The encoder's first two levels only bring
the 4 x 4 pixels of a latent cell together, exactly (see `gathering`), so training starts at the third.

H = W = S pixels · h = w latent cells · z values of a latent cell
"""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments._tiny_bagel.settings import StageSettings
from experiments._tiny_bagel.varied_scenes import varied_scene
from experiments._tiny_bases.stage_state import StageState, Step, cosine_adam, make_step
from srum_jax.models.bagel.config import AutoencoderConfig
from srum_jax.models.bagel.vae import Autoencoder, Encoder, ImageDecoder
from srum_jax.models.layers.linear import Conv
from srum_jax.models.layers.patchify import patchify
from srum_jax.worlds.shapes.drawing import BACKGROUND, render

CONFIG = AutoencoderConfig(
    ch=32, ch_mult=(1, 2, 2), num_res_blocks=1, z_channels=8, downsample=4, scale_factor=1.0, shift_factor=0.0
)
LOGVAR = -6.0  # of the stored posterior: a standard deviation of 0.05
_OBJECT_WEIGHT = 3.0
_BACKGROUND = BACKGROUND[0] / 127.5 - 1.0  # grey: the same in all three colours
_CELL = 4  # pixels of a latent cell, along each side


class DraftDecoder(nnx.Module):
    """The throw-away decoder, at the resolution of the latents."""

    def __init__(self, code_width: int, width: int, *, rngs: nnx.Rngs):
        widths = (code_width, width, width, _CELL**2 * 3)
        self.layers = nnx.List(
            Conv(before, after, 3, rngs=rngs, padding=((1, 1), (1, 1)))
            for before, after in itertools.pairwise(widths)
        )

    def __call__(self, codes: jax.Array) -> jax.Array:
        """[B, h, w, z] to the pixels of each cell, [B, h, w, 48]."""
        for number, layer in enumerate(self.layers):
            codes = layer(jax.nn.silu(codes) if number else codes)
        return codes


class EncoderStage(nnx.Module):
    """The encoder from its third level on, and the throw-away decoder."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.encoder = Encoder(CONFIG, rngs=rngs)
        self.decode = DraftDecoder(CONFIG.z_channels, 128, rngs=rngs)

    def means(self, pictures: jax.Array) -> jax.Array:
        """Float32 [B, S, S, 3] in [-1, 1] to the posterior's means [B, h, w, z]."""
        x = cells_of(pictures)
        x = jnp.pad(x, ((0, 0),) * 3 + ((0, CONFIG.ch * CONFIG.ch_mult[1] - x.shape[-1]),))
        x = self.encoder.mid(self.encoder.down[2](x))
        return self.encoder.conv_out(jax.nn.silu(self.encoder.norm_out(x)))[..., : CONFIG.z_channels]


class DecoderStage(nnx.Module):
    """The decoder that is stored; means are given. The widest block, first of the last level, is only its shortcut."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.decode = Autoencoder(CONFIG, rngs=rngs).decoder
        last = self.decode.up[0]
        last.block = nnx.List([last.block[0].nin_shortcut, last.block[1]])

    def means(self, means: jax.Array) -> jax.Array:
        """The means themselves."""
        return means


def varied_pictures(
    seed: int, count: int, size: int, textured: float = 0.5, overlapping: float = 0.25
) -> np.ndarray:
    """Pictures of the world, with more of what is rare in it.

    Args:
      seed: of the pictures.
      count: how many.
      size: pixels of a side.
      textured: share of the objects that get a texture drawn anew.
      overlapping: share of the pictures that are drawn for a prompt of the category "3d-spatial".

    Returns:
      uint8 [count, S, S, 3].
    """
    scenes = (varied_scene(seed, number, textured, overlapping) for number in range(count))
    return np.stack([render(scene, size).image for scene in scenes])


def cells_of(pictures: jax.Array) -> jax.Array:
    """[B, S, S, 3] to [B, h, w, 48], in the order in which the encoder's gathering levels bring the pixels."""
    batch, height, width, _ = pictures.shape
    # A side splits into cells, the halves of a cell (p, r), and the halves of those (q, s), which are gathered first.
    x = pictures.reshape(batch, height // 4, 2, 2, width // 4, 2, 2, 3)
    return jnp.einsum("bhpqwrsc->bhwprqsc", x).reshape(batch, height // 4, width // 4, 48)


def make_stage(
    module: nnx.Module, settings: StageSettings, seed: int
) -> tuple[StageState, Callable[[StageState], nnx.Module], Step]:
    """The start of a stage, what makes the trained module of a state, and the compiled step.

    The inputs of a step are those of `means`, and what `decode` is to give; all float32.
    """
    graphdef, parameters, rest = nnx.split(module, nnx.Param, ...)
    optimizer = cosine_adam(settings.steps, settings.learning_rate)

    def loss_of(parameters: nnx.State, inputs: tuple[jax.Array, jax.Array], key: jax.Array):
        model, (pictures, targets) = nnx.merge(graphdef, parameters, rest), inputs
        noise_key, strength_key = jax.random.split(key)
        mean = model.means(pictures)
        strength = jax.random.uniform(strength_key, (len(mean), 1, 1, 1), maxval=settings.strongest_noise)
        decoded = model.decode(mean + strength * jax.random.normal(noise_key, mean.shape))
        loss = jnp.mean(weighted_errors(decoded, targets)) + settings.penalty * jnp.mean(jnp.square(mean))
        return loss, {"loss": loss}

    step = make_step(loss_of, optimizer, settings.average, seed)
    return StageState.begin(parameters, optimizer), lambda state: nnx.merge(graphdef, state.average, rest), step


def weighted_errors(decoded: jax.Array, targets: jax.Array) -> jax.Array:
    """Absolute errors of pixels, higher on objects: float32 [..., 3 n] each to [..., n, 3]."""
    background = jnp.all(jnp.abs(_thirds(targets) - _BACKGROUND) < 0.01, axis=-1, keepdims=True)
    return jnp.where(background, 1.0, _OBJECT_WEIGHT) * jnp.abs(_thirds(decoded) - _thirds(targets))


def _thirds(values: jax.Array) -> jax.Array:
    """Brings the three colours of each pixel to an axis of their own."""
    return values.reshape(*values.shape[:-1], -1, 3)


def make_latents_of(
    encoder: EncoderStage, scale: float, shift: float, patch_size: int
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Compiled: pictures uint8 [B, S, S, 3] and a key to latent tokens float32 [B, C, P], sampled from the posterior.

    Args:
      encoder: trained.
      scale, shift: of the latents.
      patch_size: latent cells of a token, along each side.
    """
    deviation = float(np.exp(LOGVAR / 2))

    def latents_of(pictures: jax.Array, key: jax.Array) -> jax.Array:
        means = encoder.means(unit_range(pictures))
        latent = scale * (means + deviation * jax.random.normal(key, means.shape) - shift)
        tokens = patchify(latent, patch_size)
        return tokens.reshape(len(tokens), -1, tokens.shape[-1])

    return jax.jit(latents_of)


def unit_range(pictures: jax.Array) -> jax.Array:
    """Uint8 to float32 in [-1, 1]."""
    return pictures.astype(jnp.float32) / 127.5 - 1.0


def complete(encoder: Encoder, decoder: ImageDecoder, vae: Autoencoder) -> None:
    """Puts both trained halves into an autoencoder, and sets what training left out.

    Args:
      encoder: trained from its third level on.
      decoder: trained.
      vae: changed; its first two levels bring pixels together, and its posterior gets a fixed width.
    """
    nnx.update(vae.encoder, nnx.state(encoder))
    first = vae.decoder.up[0].block[0]
    first.conv2.kernel[...] = jnp.zeros_like(first.conv2.kernel[...])
    nnx.update(first.nin_shortcut, nnx.state(decoder.up[0].block[0]))
    decoder.up[0].block = nnx.List([first, decoder.up[0].block[1]])
    nnx.update(vae.decoder, nnx.state(decoder))
    gather(vae.encoder, np.eye(48, vae.encoder.down[1].downsample.kernel[...].shape[-1]))
    out, z = vae.encoder.conv_out, CONFIG.z_channels
    out.kernel[...] = out.kernel[...].at[..., z:].set(0.0)
    out.bias[...] = out.bias[...].at[z:].set(LOGVAR)


def gather(encoder: Encoder, projection: np.ndarray) -> None:
    """Sets the first two levels of an encoder, which have one block each, to a linear map of the pixels of each cell.

    Args:
      encoder: changed.
      projection: [48, C], from the pixels of a cell in the order of `cells_of` to what the third level gets.
    """
    shortcut = encoder.down[1].block[0].nin_shortcut
    for module in (*(encoder.down[level].block[0].conv2 for level in (0, 1)), encoder.down[0].downsample,
                   encoder.down[1].downsample, encoder.conv_in, shortcut):
        module.kernel[...] = jnp.zeros_like(module.kernel[...])
        module.bias[...] = jnp.zeros_like(module.bias[...])
    for module, channels in ((encoder.conv_in, 3), (shortcut, 12)):
        middle, same = module.kernel[...].shape[0] // 2, jnp.arange(channels)
        module.kernel[...] = module.kernel[...].at[middle, middle, same, same].set(1.0)
    for level, values in enumerate((np.eye(12, encoder.down[0].downsample.kernel[...].shape[-1]), projection)):
        conv, size = encoder.down[level].downsample, len(values) // 4
        for number, (row, column) in enumerate(np.ndindex(2, 2)):
            part = jnp.asarray(values[number * size : (number + 1) * size], jnp.float32)
            conv.kernel[...] = conv.kernel[...].at[row, column, :size].set(part)
