"""The tiny autoencoder's weights: an encoder that is a fixed transform of 4 x 4 pixel patches.

A randomly started encoder would give latents of arbitrary scale that hardly depend on what is drawn. This one
needs no training: its residual blocks are the identity, and its convolutions compute 16 numbers of each patch

    eight cosine patterns of the brightness   (r + g + b) / sqrt 3
    four of each of the two colour axes       (r - b) / sqrt 2,   (r - 2 g + b) / sqrt 6

The last normalisation and activation of the architecture are undone as follows. Channels come in fours
f, -f, c, -c with a large constant c, so each group has mean 0 and a scale that hardly depends on the image;
and swish(x) - swish(-x) = x. The decoder starts at random: images of this autoencoder cannot be decoded.

Names and layouts are those of `ae.safetensors`: convolutions (out, in, height, width).
"""

from collections.abc import Mapping

import numpy as np

from srum_jax.models.bagel.config import AutoencoderConfig

# ch * ch_mult[-1] = 4 channels in each of the 32 groups of the last normalisation.
CONFIG = AutoencoderConfig(
    ch=32,
    ch_mult=(1, 1, 4),
    num_res_blocks=1,
    z_channels=16,
    downsample=4,
    scale_factor=1.0,
    shift_factor=0.0,
)
LOGVAR = -6.0  # of the posterior: a standard deviation of 0.05
_LARGE = 16.0  # the constant c; pixels lie in [-1, 1]
_PATCH = 4
# Rows and columns of the cosine patterns, by colour axis.
_PATTERNS = (
    ((0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1)),
    ((0, 0), (0, 1), (1, 0), (1, 1)),
    ((0, 0), (0, 1), (1, 0), (1, 1)),
)
_AXES = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
# About unit scale on drawn images: gains of each axis' flat pattern and of all others, and mean brightness.
_FLAT_GAINS, _WAVE_GAIN, BRIGHTNESS = (1.9, 3.3, 5.6), 10.0, 1.2


def patch_patterns() -> np.ndarray:
    """Float64 [16, 3, 4, 4]: what each latent value reads from the colours of its patch."""
    place = (np.arange(_PATCH) + 0.5) * np.pi / _PATCH
    patterns = []
    for axis, frequencies in zip(_AXES, _PATTERNS, strict=True):
        for row, column in frequencies:
            wave = np.outer(np.cos(row * place), np.cos(column * place))
            patterns.append(axis[:, None, None] * (wave / np.linalg.norm(wave)))
    return np.array(patterns)


def latent_gains() -> np.ndarray:
    """Float64 [16]: what a latent value is multiplied by."""
    return np.concatenate(
        [
            [flat] + [_WAVE_GAIN] * (len(frequencies) - 1)
            for flat, frequencies in zip(_FLAT_GAINS, _PATTERNS, strict=True)
        ]
    )


def autoencoder_tensors(rng: np.random.Generator, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The encoder above, and a random decoder.

    Args:
      rng: of the decoder.
      shapes: of all tensors of `ae.safetensors`.
    """
    tensors = {}
    for name, shape in shapes.items():
        if name.endswith((".bias", ".conv2.weight", ".proj_out.weight")):  # so each block starts as the identity
            tensors[name] = np.zeros(shape)
        elif len(shape) == 1:
            tensors[name] = np.ones(shape)  # the scale of a normalisation
        else:
            tensors[name] = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    return tensors | _patch_transform({name: np.zeros_like(values) for name, values in tensors.items()})


def _patch_transform(zeros: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The convolutions of the encoder that are not inside a residual block."""
    copy = zeros["encoder.conv_in.weight"]
    for color in range(3):
        copy[color, color, 1, 1] = 1
    gather = zeros["encoder.down.0.downsample.conv.weight"]  # 2 x 2 pixels beside each other become 12 channels
    for row, column, color in np.ndindex(2, 2, 3):
        gather[(2 * row + column) * 3 + color, color, row, column] = 1
    project = zeros["encoder.down.1.downsample.conv.weight"]  # 2 x 2 of those become the 16 values
    patterns = patch_patterns() / _PATCH
    for row, column, color in np.ndindex(2, 2, 3):
        for upper, left in np.ndindex(2, 2):
            pixel = patterns[:, color, 2 * upper + row, 2 * left + column]
            project[: len(pixel), (2 * row + column) * 3 + color, upper, left] = pixel
    project_bias = zeros["encoder.down.1.downsample.conv.bias"]
    project_bias[0] = -BRIGHTNESS
    spread, spread_bias = (
        zeros[f"encoder.down.2.block.0.nin_shortcut.{kind}"] for kind in ("weight", "bias")
    )
    collect, collect_bias = (zeros[f"encoder.conv_out.{kind}"] for kind in ("weight", "bias"))
    for value, gain in enumerate(latent_gains()):
        spread[4 * value, value], spread[4 * value + 1, value] = 1, -1
        spread_bias[4 * value + 2], spread_bias[4 * value + 3] = _LARGE, -_LARGE
        collect[value, 4 * value, 1, 1] = gain * _LARGE / np.sqrt(2)
        collect[value, 4 * value + 1, 1, 1] = -gain * _LARGE / np.sqrt(2)
    collect_bias[CONFIG.z_channels :] = LOGVAR
    return {
        "encoder.conv_in.weight": copy,
        "encoder.down.0.downsample.conv.weight": gather,
        "encoder.down.1.downsample.conv.weight": project,
        "encoder.down.1.downsample.conv.bias": project_bias,
        "encoder.down.2.block.0.nin_shortcut.weight": spread,
        "encoder.down.2.block.0.nin_shortcut.bias": spread_bias,
        "encoder.conv_out.weight": collect,
        "encoder.conv_out.bias": collect_bias,
    }
