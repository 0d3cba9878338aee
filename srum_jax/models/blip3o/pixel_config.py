"""Sizes of the pixel decoder, an SDXL-like U-Net with its autoencoder, from the JSON files of `diffusion-decoder`."""

import dataclasses
from typing import Any

from srum_jax.models.config_fields import Fields

_DOWN = {"DownBlock2D": False, "CrossAttnDownBlock2D": True}
_UP = {"UpBlock2D": False, "CrossAttnUpBlock2D": True}


@dataclasses.dataclass(frozen=True)
class UNetConfig:
    """The U-Net (`unet/config.json`). Levels are counted from the finest, tuples have an entry for each."""

    in_channels: int
    out_channels: int
    widths: tuple[int, ...]
    layers_per_block: int  # residual layers of a level on the way down; one more on the way up
    transformer_depth: tuple[int, ...]  # transformer blocks behind each residual layer; 0 for levels without
    num_heads: tuple[int, ...]  # that the JSON calls attention_head_dim
    condition_width: int  # of the tokens that cross-attention sees, and of their mean
    size_features: int  # sinusoidal features of each of the six numbers of size and crop
    norm_groups: int
    norm_eps: float
    sample_size: int  # latent cells along a side

    @property
    def time_width(self) -> int:
        """Width of the embedding of time, size and condition."""
        return 4 * self.widths[0]


@dataclasses.dataclass(frozen=True)
class PixelVaeConfig:
    """The decoding half of the autoencoder (`vae/config.json`). Widths are counted from the finest level."""

    latent_channels: int
    out_channels: int
    widths: tuple[int, ...]
    layers_per_block: int  # of the encoder; the decoder has one more
    norm_groups: int
    scaling_factor: float

    @property
    def stride(self) -> int:
        """Pixels per latent cell, along each side."""
        return 2 ** (len(self.widths) - 1)


@dataclasses.dataclass(frozen=True)
class PixelSchedule:
    """The noise that the U-Net was trained with (`scheduler/scheduler_config.json`)."""

    num_train_timesteps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    steps_offset: int = 1


@dataclasses.dataclass(frozen=True)
class PixelDecoderConfig:
    """All that turns features into pixels."""

    unet: UNetConfig
    vae: PixelVaeConfig
    schedule: PixelSchedule

    @property
    def side(self) -> int:
        """Pixels of a picture, along each side."""
        return self.unet.sample_size * self.vae.stride

    @property
    def size_multiple(self) -> int:
        """What the sides of other pictures must be multiples of, in pixels, so that the U-Net's levels fit together."""
        return self.vae.stride * 2 ** (len(self.unet.widths) - 1)


def read_pixel_decoder(
    unet: dict[str, Any], vae: dict[str, Any], scheduler: dict[str, Any], features: int, source: str
) -> PixelDecoderConfig:
    """The configuration from the three parsed files.

    Args:
      unet, vae, scheduler: contents of the files.
      features: width of the features that are decoded.
      source: path of `diffusion-decoder`, for messages.

    Raises:
      ConfigError: naming file and field.
    """
    return PixelDecoderConfig(
        _unet(Fields(unet, f"{source}/unet/config.json"), features),
        _vae(Fields(vae, f"{source}/vae/config.json")),
        _schedule(Fields(scheduler, f"{source}/scheduler/scheduler_config.json")),
    )


def _unet(reader: Fields, features: int) -> UNetConfig:
    reader.unsupported(
        act_fn="silu", addition_embed_type="text_time", use_linear_projection=True, flip_sin_to_cos=True,
        freq_shift=0, time_embedding_type="positional", resnet_time_scale_shift="default", dual_cross_attention=False,
        only_cross_attention=False, mid_block_type="UNetMidBlock2DCrossAttn", downsample_padding=1,
        class_embed_type=None, reverse_transformer_layers_per_block=None, encoder_hid_dim=None,
        num_attention_heads=None, conv_in_kernel=3, conv_out_kernel=3, center_input_sample=False,
        resnet_out_scale_factor=1.0, mid_block_scale_factor=1, resnet_skip_time_act=False, time_embedding_dim=None,
        time_embedding_act_fn=None, timestep_post_act=None, time_cond_proj_dim=None, class_embeddings_concat=False,
        cross_attention_norm=None, attention_type="default", upcast_attention=False,
    )
    widths = reader.positives("block_out_channels")
    down = _attends(reader, "down_block_types", _DOWN, len(widths))
    up = _attends(reader, "up_block_types", _UP, len(widths))
    reader.check("up_block_types", up == down[::-1], "attention on the levels of down_block_types, in reverse",
                 reader.values["up_block_types"])
    reader.check("down_block_types", down[-1], "attention on the coarsest level", reader.values["down_block_types"])
    depths = _per_level(reader, "transformer_layers_per_block", len(widths))
    config = UNetConfig(
        in_channels=reader.positive("in_channels", 4),
        out_channels=reader.positive("out_channels", 4),
        widths=widths,
        layers_per_block=reader.positive("layers_per_block", 2),
        transformer_depth=tuple(depth * here for depth, here in zip(depths, down, strict=True)),
        num_heads=_per_level(reader, "attention_head_dim", len(widths)),
        condition_width=reader.positive("cross_attention_dim"),
        size_features=reader.positive("addition_time_embed_dim"),
        norm_groups=reader.positive("norm_num_groups", 32),
        norm_eps=reader.number("norm_eps", 1e-5),
        sample_size=reader.positive("sample_size", 128),
    )
    for width, heads in zip(widths, config.num_heads, strict=True):
        reader.divides("norm_num_groups", config.norm_groups, "a width of block_out_channels", width)
        reader.divides("attention_head_dim", heads, "a width of block_out_channels", width)
    for field, found, expected, of in (
        ("cross_attention_dim", config.condition_width, features, "width of the features"),
        ("projection_class_embeddings_input_dim", reader.positive("projection_class_embeddings_input_dim"),
         features + 6 * config.size_features, "features, and six times addition_time_embed_dim"),
    ):
        reader.check(field, found == expected, f"{expected} ({of})", found)
    return config


def _vae(reader: Fields) -> PixelVaeConfig:
    reader.unsupported(
        act_fn="silu", mid_block_add_attention=True, use_post_quant_conv=True, shift_factor=None, latents_mean=None,
        latents_std=None,
    )
    config = PixelVaeConfig(
        latent_channels=reader.positive("latent_channels", 4),
        out_channels=reader.positive("out_channels", 3),
        widths=reader.positives("block_out_channels"),
        layers_per_block=reader.positive("layers_per_block", 2),
        norm_groups=reader.positive("norm_num_groups", 32),
        scaling_factor=reader.number("scaling_factor", 0.13025),
    )
    for width in config.widths:
        reader.divides("norm_num_groups", config.norm_groups, "a width of block_out_channels", width)
    return config


def _schedule(reader: Fields) -> PixelSchedule:
    reader.unsupported(
        beta_schedule="scaled_linear", prediction_type="epsilon", timestep_spacing="leading",
        interpolation_type="linear", use_karras_sigmas=False, use_beta_sigmas=False, use_exponential_sigmas=False,
        final_sigmas_type="zero", trained_betas=None, rescale_betas_zero_snr=False, timestep_type="discrete",
        sigma_min=None, sigma_max=None,
    )
    return PixelSchedule(
        num_train_timesteps=reader.positive("num_train_timesteps", 1000),
        beta_start=reader.number("beta_start", 0.00085),
        beta_end=reader.number("beta_end", 0.012),
        steps_offset=reader.integer("steps_offset", 1),
    )


def _attends(reader: Fields, name: str, known: dict[str, bool], levels: int) -> tuple[bool, ...]:
    """Whether each level of a list of block types has attention."""
    types = reader.values.get(name)
    good = isinstance(types, list) and len(types) == levels and all(
        isinstance(block, str) and block in known for block in types)
    reader.check(name, good, f"{levels} of {', '.join(known)}", types)
    return tuple(known[block] for block in types)


def _per_level(reader: Fields, name: str, levels: int) -> tuple[int, ...]:
    """A number for all levels, or a list of one for each."""
    if not isinstance(reader.values.get(name), list):
        return (reader.positive(name, 1),) * levels
    values = reader.positives(name)
    reader.check(name, len(values) == levels, f"{levels} numbers (as block_out_channels)", list(values))
    return values
