"""Sizes of the two networks over picture features: the tower that makes them and the diffusion transformer over them.

Released checkpoints state neither; the values are class defaults of the reference. `eva_clip_config.json` and
`dit_config.json` beside `config.json` state others.
"""

import dataclasses
import re
from typing import Any

from srum_jax.models.config_fields import ConfigError, Fields

_POOLING = re.compile(r"early_pool2d_([1-9][0-9]*)")
_LARGEST_MODULATION = 1024


@dataclasses.dataclass(frozen=True)
class EvaConfig:
    """The EVA-CLIP-E/14-plus tower (`eva_clip_config.json`) and the pooling of its features (`gen_pooling`)."""

    width: int = 1792
    num_layers: int = 64
    head_width: int = 112
    mlp_width: int = 15360
    image_size: int = 448  # pixels
    patch_size: int = 14  # pixels
    pooling_stride: int = 4  # patches per pooled feature, along each side
    norm_eps: float = 1e-6

    @property
    def num_heads(self) -> int:
        """Attention heads."""
        return self.width // self.head_width

    @property
    def grid(self) -> int:
        """Patches along each side."""
        return self.image_size // self.patch_size

    @property
    def pooled_grid(self) -> int:
        """Pooled features along each side."""
        return self.grid // self.pooling_stride


@dataclasses.dataclass(frozen=True)
class DiTConfig:
    """The diffusion transformer over pooled features (`dit_config.json`)."""

    condition_width: int  # of the language model's states at the queries
    grid: int = 8  # features along each side
    channels: int = 1792  # of a feature, in and out
    width: int = 1792
    num_layers: int = 24
    num_heads: int = 28
    multiple_of: int = 256  # of the MLP's width
    norm_eps: float = 1e-5

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.width // self.num_heads

    @property
    def mlp_width(self) -> int:
        """Two thirds of four times the width, up to the next multiple."""
        return -(-int(2 * 4 * self.width / 3) // self.multiple_of) * self.multiple_of

    @property
    def modulation_width(self) -> int:
        """Width of the vector that time and pooled condition make."""
        return min(self.width, _LARGEST_MODULATION)


def read_eva(values: dict[str, Any] | None, model: Fields, source: str) -> EvaConfig:
    """The tower's sizes.

    Args:
      values: of `eva_clip_config.json`; None where there is none.
      model: of `config.json`, which names the tower and its pooling.
      source: the directory, for messages.

    Raises:
      ConfigError: naming file and field.
    """
    model.unsupported(gen_vision_tower="eva-clip-E-14-plus")
    pooling = model.values.get("gen_pooling", "early_pool2d_4")
    match = _POOLING.fullmatch(pooling) if isinstance(pooling, str) else None
    if match is None:
        raise ConfigError(f"{model.file}: field 'gen_pooling': expected early_pool2d_N, found {pooling!r}.")
    file = f"{source}/eva_clip_config.json"
    reader = Fields(Fields(values or {}, file).values.get("vision_cfg", {}), f"{file}: vision_cfg")
    reader.unsupported(postnorm=True, qkv_bias=True, xattn=False, drop_path_rate=0)
    width = reader.positive("width", 1792)
    ratio = reader.number("mlp_ratio", 15360 / 1792)
    config = EvaConfig(
        width=width,
        num_layers=reader.positive("layers", 64),
        head_width=reader.positive("head_width", 112),
        mlp_width=int(width * ratio),
        image_size=reader.positive("image_size", 448),
        patch_size=reader.positive("patch_size", 14),
        pooling_stride=int(match.group(1)),
    )
    reader.divides("head_width", config.head_width, "width", config.width)
    reader.divides("patch_size", config.patch_size, "image_size", config.image_size)
    model.divides("gen_pooling", config.pooling_stride, "patches along a side", config.grid)
    reader.check("mlp_ratio", config.mlp_width >= 1, "a positive number", ratio)
    stated = model.positive("gen_hidden_size", config.width)
    model.check("gen_hidden_size", stated == config.width, f"{config.width} (width of the EVA-CLIP tower)", stated)
    return config


def read_dit(values: dict[str, Any] | None, eva: EvaConfig, condition_width: int, source: str) -> DiTConfig:
    """The diffusion transformer's sizes.

    Args:
      values: of `dit_config.json`; None where there is none.
      eva: whose pooled features it works on.
      condition_width: width of the language model.
      source: the directory, for messages.

    Raises:
      ConfigError: naming file and field.
    """
    reader = Fields(values or {}, f"{source}/dit_config.json")
    reader.unsupported(patch_size=1, qk_norm=True, learn_sigma=False, ffn_dim_multiplier=None)
    config = DiTConfig(
        condition_width=reader.positive("latent_embedding_size", condition_width),
        grid=reader.positive("input_size", 8),
        channels=reader.positive("in_channels", 1792),
        width=reader.positive("dim", 1792),
        num_layers=reader.positive("n_layers", 24),
        num_heads=reader.positive("n_heads", 28),
        multiple_of=reader.positive("multiple_of", 256),
        norm_eps=reader.number("norm_eps", 1e-5),
    )
    reader.divides("n_heads", config.num_heads, "dim", config.width)
    reader.check("n_heads", config.head_dim % 4 == 0,
                 "heads of a multiple of 4 values (rotary positions of rows and columns)", config.head_dim)
    for field, found, expected, of in (
        ("n_kv_heads", reader.positive("n_kv_heads", config.num_heads), config.num_heads, "n_heads"),
        ("latent_embedding_size", config.condition_width, condition_width, "width of the language model"),
        ("in_channels", config.channels, eva.width, "width of the EVA-CLIP tower"),
        ("input_size", config.grid, eva.pooled_grid, "pooled features along a side"),
    ):
        reader.check(field, found == expected, f"{expected} ({of})", found)
    return config
