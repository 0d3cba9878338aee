"""Sizes of a BLIP3o model, read from the JSON files of a checkpoint."""

import dataclasses
from typing import Any

from etils import epath

from srum_jax.models.blip3o.feature_config import DiTConfig, EvaConfig, read_dit, read_eva
from srum_jax.models.blip3o.pixel_config import PixelDecoderConfig, read_pixel_decoder
from srum_jax.models.config_fields import ConfigError, Fields, check_tokens, read_json, read_optional
from srum_jax.models.decoder_config import DecoderConfig

DECODER_DIRECTORY = "diffusion-decoder"


@dataclasses.dataclass(frozen=True)
class LanguageConfig(DecoderConfig):
    """The Qwen2.5 decoder."""

    # Frequencies turned by the temporal, the row's and the column's position, in this order.
    mrope_section: tuple[int, int, int] = (16, 24, 24)
    tied: bool = False  # the output head is the embedding


@dataclasses.dataclass(frozen=True)
class VisionConfig:
    """The Qwen2.5-VL tower (`vision_config`). Defaults are those of fields that released files omit."""

    hidden_size: int
    out_hidden_size: int  # width of the language model
    num_layers: int = 32
    num_heads: int = 16
    intermediate_size: int = 3420
    num_channels: int = 3
    patch_size: int = 14  # pixels
    merge_size: int = 2  # patches per token, along each side
    temporal_patch_size: int = 2  # frames per patch
    window_size: int = 112  # pixels
    full_attention_layers: tuple[int, ...] = (7, 15, 23, 31)
    norm_eps: float = 1e-6

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_heads

    @property
    def patch_values(self) -> int:
        """Values of one flattened patch."""
        return self.num_channels * self.temporal_patch_size * self.patch_size**2

    @property
    def token_pixels(self) -> int:
        """Pixels that one token of the language model covers, along each side."""
        return self.patch_size * self.merge_size

    @property
    def window_tokens(self) -> int:
        """Tokens of the language model in a window, along each side."""
        return self.window_size // self.token_pixels


@dataclasses.dataclass(frozen=True)
class SpecialTokens:
    """Ids of control tokens."""

    pad: int
    turn_start: int  # <|im_start|>
    turn_end: int  # <|im_end|>
    vision_start: int
    vision_end: int
    image_pad: int  # place of one token of a picture to be read
    image_start: int  # [IMG]: image queries follow
    image_query: int  # <image>: place of an image query


@dataclasses.dataclass(frozen=True)
class Blip3oConfig:
    """A whole BLIP3o model. `pixels` is None for a checkpoint without `diffusion-decoder`."""

    llm: LanguageConfig
    vision: VisionConfig
    eva: EvaConfig
    dit: DiTConfig
    pixels: PixelDecoderConfig | None
    special_tokens: SpecialTokens
    num_queries: int = 64
    max_prompt_tokens: int = 512  # in training; queries and [IMG] included
    timestep_shift: float = 1.0  # of the training times; no file states another

    @classmethod
    def from_directory(cls, directory: epath.PathLike) -> "Blip3oConfig":
        """Reads `config.json`, and where present `dit_config.json`, `eva_clip_config.json` and `diffusion-decoder`.

        Raises:
          ConfigError: naming the file and field, what was expected and what was found.
        """
        directory = epath.Path(directory)
        decoder = directory / DECODER_DIRECTORY
        pixels = None
        if decoder.exists():
            files = ("unet/config.json", "vae/config.json", "scheduler/scheduler_config.json")
            pixels = tuple(read_json(decoder / file) for file in files)
        return cls.from_json(
            read_json(directory / "config.json"),
            dit=read_optional(directory / "dit_config.json"),
            eva=read_optional(directory / "eva_clip_config.json"),
            pixels=pixels,
            source=str(directory),
        )

    @classmethod
    def from_json(
        cls,
        model: dict[str, Any],
        *,
        dit: dict[str, Any] | None = None,
        eva: dict[str, Any] | None = None,
        pixels: tuple[dict[str, Any], dict[str, Any], dict[str, Any]] | None = None,
        source: str = "configuration",
    ) -> "Blip3oConfig":
        """Builds the configuration from the parsed JSON files; None stands for an absent file.

        Args:
          model: `config.json`.
          dit: `dit_config.json`.
          eva: `eva_clip_config.json`.
          pixels: configurations of U-Net, autoencoder and scheduler.
          source: the directory, for messages.
        """
        reader = Fields(model, f"{source}/config.json")
        reader.unsupported(model_type="blip3o_qwen")
        if model.get("vision_config") is None:
            raise ConfigError(f"{reader.file}: field 'vision_config': expected the Qwen2.5-VL tower of BLIP3o, found "
                              "none; this looks like BLIP3o-NEXT, which is another model and is not supported.")
        language = _language(reader)
        features = read_eva(eva, reader, source)
        return cls(
            llm=language,
            vision=_vision(Fields(model["vision_config"], f"{reader.file}: vision_config"), language.hidden_size),
            eva=features,
            dit=read_dit(dit, features, language.hidden_size, source),
            pixels=None if pixels is None else read_pixel_decoder(
                *pixels, features.width, f"{source}/{DECODER_DIRECTORY}"
            ),
            special_tokens=_special_tokens(reader, language.vocab_size),
            num_queries=reader.positive("n_query", 64),
            max_prompt_tokens=reader.positive("tokenizer_model_max_length", 512),
        )


def _language(reader: Fields) -> LanguageConfig:
    reader.unsupported(hidden_act="silu", use_sliding_window=False)
    rope = Fields(reader.values.get("rope_scaling"), f"{reader.file}: rope_scaling")
    # Both names are found in files; either means rotary positions in three parts.
    kind = rope.values.get("type", rope.values.get("rope_type", "mrope"))
    rope.check("type", kind in ("mrope", "default"), "'mrope' or 'default'", kind)
    config = LanguageConfig.read(reader, 128000, mrope_section=rope.positives("mrope_section"),
                                 tied=reader.flag("tie_word_embeddings", False))
    rope.check("mrope_section", len(config.mrope_section) == 3 and 2 * sum(config.mrope_section) == config.head_dim,
               f"three numbers that add up to half a head's width, {config.head_dim / 2:g}", list(config.mrope_section))
    return config


def _vision(reader: Fields, width: int) -> VisionConfig:
    reader.unsupported(hidden_act="silu")
    layers = reader.positive("depth", 32)
    full = reader.values.get("fullatt_block_indexes", [7, 15, 23, 31])
    known = isinstance(full, list) and all(type(layer) is int and 0 <= layer < layers for layer in full)
    reader.check("fullatt_block_indexes", known, f"a list of layers below {layers} (depth)", full)
    config = VisionConfig(
        hidden_size=reader.positive("hidden_size"),
        out_hidden_size=reader.positive("out_hidden_size", width),
        num_layers=layers,
        num_heads=reader.positive("num_heads", 16),
        intermediate_size=reader.positive("intermediate_size", 3420),
        num_channels=reader.positive("in_channels", 3),
        patch_size=reader.positive("patch_size", 14),
        merge_size=reader.positive("spatial_merge_size", 2),
        temporal_patch_size=reader.positive("temporal_patch_size", 2),
        window_size=reader.positive("window_size", 112),
        full_attention_layers=tuple(full),
    )
    reader.divides("num_heads", config.num_heads, "hidden_size", config.hidden_size)
    reader.check("num_heads", config.head_dim % 4 == 0,
                 "heads of a multiple of 4 values (rotary positions of rows and columns)", config.head_dim)
    reader.check("window_size", config.window_tokens >= 1, f"at least {config.token_pixels} (pixels of a token)",
                 config.window_size)
    reader.check("out_hidden_size", config.out_hidden_size == width, f"{width} (width of the language model)",
                 config.out_hidden_size)
    return config


def _special_tokens(reader: Fields, vocab_size: int) -> SpecialTokens:
    turn_end = reader.integer("eos_token_id", 151645)
    tokens = SpecialTokens(
        pad=reader.integer("pad_token_id", 151643),
        turn_start=turn_end - 1,  # as in every Qwen2.5 tokenizer; no JSON file of the model states it
        turn_end=turn_end,
        vision_start=reader.integer("vision_start_token_id", 151652),
        vision_end=reader.integer("vision_end_token_id", 151653),
        image_pad=reader.integer("image_token_id", 151655),
        # [IMG], [/IMG] and <image> were appended to the vocabulary, in this order.
        image_start=vocab_size - 3,
        image_query=vocab_size - 1,
    )
    check_tokens(tokens, vocab_size, reader.file)
    return tokens
