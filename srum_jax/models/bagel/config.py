"""Shapes of a BAGEL model, read from the JSON files that a released checkpoint carries."""

import dataclasses
from typing import Any

from etils import epath

from srum_jax.models.config_fields import ConfigError, Fields, check_tokens, read_json, read_leniently, read_optional
from srum_jax.models.decoder_config import DecoderConfig


@dataclasses.dataclass(frozen=True)
class LanguageConfig(DecoderConfig):
    """The Qwen2 decoder (`llm_config.json`). Both experts have these widths."""

    qk_norm: bool = True  # as released; the JSON may say no other


@dataclasses.dataclass(frozen=True)
class VisionConfig:
    """The SigLIP tower (`vit_config.json`)."""

    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_layers: int  # layers that exist and are used; the JSON of the release counts one more
    image_size: int  # pixels; fixes the learned position table
    patch_size: int  # pixels
    num_channels: int
    layer_norm_eps: float

    @property
    def num_positions(self) -> int:
        """Rows of the learned position table."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def patch_values(self) -> int:
        """Values of one flattened patch."""
        return self.patch_size**2 * self.num_channels


@dataclasses.dataclass(frozen=True)
class AutoencoderConfig:
    """The FLUX-style autoencoder. The release has no `vae_config.json`; its values are the defaults."""

    in_channels: int = 3
    out_ch: int = 3
    ch: int = 128
    ch_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    z_channels: int = 16
    downsample: int = 8  # pixels per latent cell, along each side
    scale_factor: float = 0.3611
    shift_factor: float = 0.1159


@dataclasses.dataclass(frozen=True)
class SpecialTokens:
    """Token ids that mark the start and end of texts and images. Defaults: the Qwen2.5 tokenizer's."""

    bos: int = 151644
    eos: int = 151645
    start_of_image: int = 151652
    end_of_image: int = 151653


@dataclasses.dataclass(frozen=True)
class BagelConfig:
    """A whole BAGEL model. `vit` is None for a model that only generates."""

    llm: LanguageConfig
    vit: VisionConfig | None
    vae: AutoencoderConfig
    special_tokens: SpecialTokens
    latent_patch_size: int = 2  # latent cells per token, along each side
    max_latent_size: int = 64  # side of the latent position table, in tokens
    vit_max_num_patch_per_side: int = 70  # side of the fixed table added after the connector
    interpolate_pos: bool = False  # position ids by bucket instead of by row and column
    timestep_shift: float = 1.0  # of the training times

    @property
    def latent_values(self) -> int:
        """Values of one latent token."""
        return self.latent_patch_size**2 * self.vae.z_channels

    @property
    def latent_stride(self) -> int:
        """Pixels that one latent token covers, along each side."""
        return self.latent_patch_size * self.vae.downsample

    @classmethod
    def from_directory(cls, directory: epath.PathLike) -> "BagelConfig":
        """Reads `llm_config.json`, `vit_config.json`, and where present `vae_config.json` and `config.json`.

        Raises:
          ConfigError: naming the file and field, what was expected and what was found.
        """
        directory = epath.Path(directory)
        return cls.from_json(
            llm=read_json(directory / "llm_config.json"),
            vit=read_optional(directory / "vit_config.json"),
            vae=read_optional(directory / "vae_config.json"),
            # The published one is reported not to be strict JSON, and nothing in it is indispensable.
            model=read_leniently(directory / "config.json"),
            source=str(directory),
        )

    @classmethod
    def from_json(
        cls,
        llm: dict[str, Any],
        vit: dict[str, Any] | None = None,
        vae: dict[str, Any] | None = None,
        model: dict[str, Any] | None = None,
        source: str = "configuration",
    ) -> "BagelConfig":
        """Builds the configuration from the parsed JSON files; None stands for an absent file."""
        model = {} if model is None else model
        llm_reader = Fields(llm, f"{source}/llm_config.json")
        model_reader = Fields(model, f"{source}/config.json")
        language = LanguageConfig.read(llm_reader, 32768)
        llm_reader.check("num_attention_heads", language.head_dim % 2 == 0,
                         "heads of an even width, hidden_size / num_attention_heads (rotary positions)",
                         language.head_dim)
        llm_reader.unsupported(hidden_act="silu", tie_word_embeddings=False, use_sliding_window=False,
                               rope_scaling=None)
        llm_reader.check("hidden_size", language.hidden_size % 4 == 0, "a multiple of 4 (sine/cosine tables)",
                         language.hidden_size)

        vision = None
        if vit is not None and model_reader.flag("visual_und", True):
            reader = Fields(vit, f"{source}/vit_config.json")
            select_layer = model_reader.integer("vit_select_layer", -2)
            vision = VisionConfig(
                hidden_size=reader.positive("hidden_size"),
                intermediate_size=reader.positive("intermediate_size"),
                num_heads=reader.positive("num_attention_heads"),
                num_layers=reader.positive("num_hidden_layers") + 1 + select_layer,
                image_size=reader.positive("image_size"),
                patch_size=reader.positive("patch_size"),
                num_channels=reader.positive("num_channels", 3),
                layer_norm_eps=reader.number("layer_norm_eps", 1e-6),
            )
            reader.divides("num_attention_heads", vision.num_heads, "hidden_size", vision.hidden_size)
            reader.unsupported(hidden_act="gelu_pytorch_tanh", rope=False)
            if vision.num_layers < 1:
                raise ConfigError(f"{reader.file}: field 'num_hidden_layers': no layer is left after "
                                  f"vit_select_layer {select_layer}; found {vit['num_hidden_layers']}.")

        autoencoder = AutoencoderConfig()
        if vae is not None:
            reader = Fields(vae, f"{source}/vae_config.json")
            autoencoder = AutoencoderConfig(
                in_channels=reader.positive("in_channels", 3),
                out_ch=reader.positive("out_ch", 3),
                ch=reader.positive("ch"),
                ch_mult=reader.positives("ch_mult"),
                num_res_blocks=reader.positive("num_res_blocks"),
                z_channels=reader.positive("z_channels"),
                downsample=2 ** (len(reader.positives("ch_mult")) - 1),
                scale_factor=reader.number("scale_factor"),
                shift_factor=reader.number("shift_factor"),
            )
            stated = reader.positive("downsample", autoencoder.downsample)
            reader.check("downsample", stated == autoencoder.downsample,
                         f"{autoencoder.downsample} (2 to the number of levels of ch_mult less one)", stated)

        model_reader.unsupported(llm_qk_norm=True, vit_rope=False, connector_act="gelu_pytorch_tanh")
        return cls(
            llm=language,
            vit=vision,
            vae=autoencoder,
            special_tokens=_special_tokens(model.get("special_token_ids"), language.vocab_size, source),
            latent_patch_size=model_reader.positive("latent_patch_size", 2),
            max_latent_size=model_reader.positive("max_latent_size", 64),
            vit_max_num_patch_per_side=model_reader.positive("vit_max_num_patch_per_side", 70),
            interpolate_pos=model_reader.flag("interpolate_pos", False),
            timestep_shift=model_reader.number("timestep_shift", 1.0),
        )


def _special_tokens(ids: dict[str, int] | None, vocab_size: int, source: str) -> SpecialTokens:
    tokens = SpecialTokens()
    if ids is not None:
        reader = Fields(ids, f"{source}/config.json: field 'special_token_ids'")
        tokens = SpecialTokens(reader.integer("bos_token_id"), reader.integer("eos_token_id"),
                               reader.integer("start_of_image"), reader.integer("end_of_image"))
    check_tokens(tokens, vocab_size, f"{source}/config.json: field 'special_token_ids'")
    return tokens


# The released BAGEL-7B-MoT, for what has to know its sizes without having its files.
RELEASED = BagelConfig(
    llm=LanguageConfig(
        vocab_size=152064, hidden_size=3584, intermediate_size=18944, num_layers=28, num_heads=28, num_kv_heads=4,
        rms_norm_eps=1e-6, rope_theta=1e6, max_position_embeddings=32768,
    ),
    vit=VisionConfig(
        hidden_size=1152, intermediate_size=4304, num_heads=16, num_layers=26, image_size=980, patch_size=14,
        num_channels=3, layer_norm_eps=1e-6,
    ),
    vae=AutoencoderConfig(),
    special_tokens=SpecialTokens(),
)
