"""Sizes of a Janus-Pro model, read from the JSON files of a checkpoint in either published layout."""

import dataclasses
from typing import Any

from etils import epath

from srum_jax.models.config_fields import ConfigError, Fields, check_tokens, read_json, read_optional
from srum_jax.models.decoder_config import DecoderConfig
from srum_jax.models.janus_pro.tokens import SpecialTokens, read_tokens

ORIGINAL, COMMUNITY = "multi_modality", "janus"  # `model_type` of the authors' files, and of those for transformers
MAX_DEPTH = 4  # linear maps of an aligner
# What a language configuration leaves out takes the values of transformers' LlamaConfig; the file of 7B relies on it.
_LLAMA = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
          "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "max_position_embeddings": 2048}
_SIGLIP = {"siglip_large_patch16_384": {"width": 1024, "layers": 24, "heads": 16, "patch_size": 16, "image_size": 384,
                                        "mlp_ratio": 4}}


@dataclasses.dataclass(frozen=True)
class VisionConfig:
    """The SigLIP tower. Released checkpoints name it; `siglip_config.json` beside `config.json` states other sizes."""

    hidden_size: int = 1024
    intermediate_size: int = 4096
    num_heads: int = 16
    num_layers: int = 24
    image_size: int = 384  # pixels
    patch_size: int = 16  # pixels
    layer_norm_eps: float = 1e-6

    @property
    def num_tokens(self) -> int:
        """Patches of a picture, each a token of the language model."""
        return (self.image_size // self.patch_size) ** 2


@dataclasses.dataclass(frozen=True)
class VQConfig:
    """The tokenizer of pictures. Released checkpoints state no size of its networks; `vq_config.json` states others."""

    ch: int = 128
    ch_mult: tuple[int, ...] = (1, 1, 2, 2, 4)
    num_res_blocks: int = 2
    z_channels: int = 256
    num_groups: int = 32  # of normalisations
    codebook_size: int = 16384
    code_width: int = 8
    grid: int = 24  # codes along each side of a picture

    @property
    def stride(self) -> int:
        """Pixels that a code covers, along each side."""
        return 2 ** (len(self.ch_mult) - 1)

    @property
    def num_codes(self) -> int:
        """Codes of a picture."""
        return self.grid**2

    @property
    def image_size(self) -> int:
        """Pixels along each side of a picture that is drawn."""
        return self.grid * self.stride


@dataclasses.dataclass(frozen=True)
class JanusConfig:
    """A whole Janus-Pro model."""

    llm: DecoderConfig
    vision: VisionConfig
    vq: VQConfig
    head_width: int  # between the two maps of the head over codes
    special_tokens: SpecialTokens
    aligner_depth: int = 2  # linear maps between the tower and the language model
    gen_aligner_depth: int = 2  # the same behind the embedding of codes

    @classmethod
    def from_directory(cls, directory: epath.PathLike) -> "JanusConfig":
        """Reads `config.json`, the ids of special tokens, and where present `siglip_config.json` and `vq_config.json`.

        Raises:
          ConfigError: naming the file and field, what was expected and what was found.
        """
        directory = epath.Path(directory)
        return cls.from_json(
            read_json(directory / "config.json"),
            siglip=read_optional(directory / "siglip_config.json"),
            vq=read_optional(directory / "vq_config.json"),
            tokens=read_tokens(directory),
            source=str(directory),
        )

    @classmethod
    def from_json(
        cls,
        model: dict[str, Any],
        *,
        siglip: dict[str, Any] | None = None,
        vq: dict[str, Any] | None = None,
        tokens: SpecialTokens | None = None,
        source: str = "configuration",
    ) -> "JanusConfig":
        """Builds the configuration from the parsed JSON files; None stands for an absent file.

        Args:
          model: `config.json`.
          siglip: `siglip_config.json`.
          vq: `vq_config.json`.
          tokens: special tokens; those of the 1B model where no file states them.
          source: the directory, for messages.
        """
        reader = Fields(model, f"{source}/config.json")
        kind = model.get("model_type")
        reader.check("model_type", kind in (ORIGINAL, COMMUNITY), f"{ORIGINAL!r} or {COMMUNITY!r}", kind)
        read = _original if kind == ORIGINAL else _community
        config = read(reader, siglip, _networks(vq, source), tokens or SpecialTokens(), source)
        _check(config, reader.file)
        return config


def _original(
    reader: Fields, siglip: dict[str, Any] | None, networks: dict[str, Any], tokens: SpecialTokens, source: str
) -> JanusConfig:
    absent = [name for name in ("gen_vision_config", "gen_aligner_config", "gen_head_config")
              if reader.values.get(name) is None]
    if absent:
        raise ConfigError(f"{reader.file}: field '{absent[0]}' is missing; this looks like DeepSeek-VL, which has the "
                          "same model_type, draws no pictures and is not supported.")
    blocks = {}
    for name, classes in (("vision_config", ("CLIPVisionTower",)), ("aligner_config", ("MlpProjector",)),
                          ("gen_vision_config", ("VQ-16",)), ("gen_aligner_config", ("MlpProjector",)),
                          ("gen_head_config", ("vision_head",))):
        block = Fields(reader.values.get(name), f"{reader.file}: {name}")
        found = str(block.values.get("cls", classes[0])).rpartition(".")[2]
        block.check("cls", found in classes, repr(classes[0]), found)
        blocks[name] = Fields(block.values.get("params"), f"{block.file}.params")
    llm = _language(Fields(reader.values.get("language_config"), f"{reader.file}: language_config"))
    for name in ("aligner_config", "gen_aligner_config"):
        blocks[name].unsupported(projector_type="mlp_gelu")
        _equal(blocks[name], "n_embed", llm.hidden_size, "width of the language model")
    _equal(blocks["gen_head_config"], "n_embed", llm.hidden_size, "width of the language model")
    codebook = blocks["gen_vision_config"]
    sizes = {"codebook_size": codebook.positive("image_token_size", 16384),
             "code_width": codebook.positive("n_embed", 8)}
    _equal(blocks["gen_head_config"], "image_token_size", sizes["codebook_size"], "codes of gen_vision_config")
    for name, value in sizes.items():
        if networks.get(name, value) != value:
            raise ConfigError(f"{source}/vq_config.json: codebook of {networks[name]}: expected {value}, as in "
                              f"{codebook.file}.")
    return JanusConfig(
        llm=llm,
        vision=_named_tower(blocks["vision_config"], siglip, source),
        vq=VQConfig(**{**networks, **sizes}),
        head_width=blocks["gen_head_config"].positive("image_token_embed"),
        special_tokens=tokens,
        aligner_depth=blocks["aligner_config"].positive("depth", 2),
        gen_aligner_depth=blocks["gen_aligner_config"].positive("depth", 2),
    )


def _named_tower(reader: Fields, siglip: dict[str, Any] | None, source: str) -> VisionConfig:
    name = reader.values.get("model_name")
    file = f"{source}/siglip_config.json"
    if siglip is None:
        if name not in _SIGLIP:
            raise ConfigError(f"{reader.file}: field 'model_name': expected {' or '.join(map(repr, _SIGLIP))}, or "
                              f"{file} with the sizes of the tower; found {name!r}.")
        siglip = _SIGLIP[name]
    reader.unsupported(select_feature="same")
    sizes = Fields(siglip, file)
    layers, select = sizes.positive("layers"), reader.integer("select_layer", -1)
    layers = min(layers, layers + select + 1) if select <= 0 else min(layers, select)
    if layers < 1:
        raise ConfigError(f"{reader.file}: field 'select_layer': no layer of the tower is left, found {select}.")
    config = VisionConfig(
        hidden_size=sizes.positive("width"),
        intermediate_size=int(sizes.positive("width") * sizes.number("mlp_ratio", 4)),
        num_heads=sizes.positive("heads"),
        num_layers=layers,
        image_size=reader.positive("image_size", sizes.positive("image_size")),
        patch_size=sizes.positive("patch_size"),
    )
    sizes.divides("heads", config.num_heads, "width", config.hidden_size)
    return config


def _community(
    reader: Fields, siglip: dict[str, Any] | None, networks: dict[str, Any], tokens: SpecialTokens, source: str
) -> JanusConfig:
    del siglip, source
    llm = _language(Fields(reader.values.get("text_config"), f"{reader.file}: text_config"))
    # What is left out has the value of the 1B model.
    vision = Fields(reader.values.get("vision_config", {}), f"{reader.file}: vision_config")
    codes = Fields(reader.values.get("vq_config", {}), f"{reader.file}: vq_config")
    vision.unsupported(hidden_act="gelu", use_qk_norm=False, attention_bias=True, num_channels=3)
    codes.unsupported(hidden_act="gelu", double_latent=False, in_channels=3, out_channels=3)
    tower = VisionConfig(
        hidden_size=vision.positive("hidden_size", 1024),
        intermediate_size=int(vision.positive("hidden_size", 1024) * vision.number("mlp_ratio", 4)),
        num_heads=vision.positive("num_attention_heads", 16),
        num_layers=vision.positive("num_hidden_layers", 24),
        image_size=vision.positive("image_size", 384),
        patch_size=vision.positive("patch_size", 16),
        layer_norm_eps=vision.number("layer_norm_eps", 1e-6),
    )
    vision.divides("num_attention_heads", tower.num_heads, "hidden_size", tower.hidden_size)
    # That of `codes` is also the inner width of the head; that it is the model's shows in gen_aligner's tensors.
    for block, field in ((vision, "projection_dim"), (codes, "image_token_embed_dim")):
        if block.positive(field, 2048) != llm.hidden_size:
            _equal(block, field, llm.hidden_size, "width of the language model")
    sizes = {
        "ch": codes.positive("base_channels", 128), "num_res_blocks": codes.positive("num_res_blocks", 2),
        "ch_mult": codes.positives("channel_multiplier") if "channel_multiplier" in codes.values else (1, 1, 2, 2, 4),
        "z_channels": codes.positive("latent_channels", 256),
        "codebook_size": codes.positive("num_embeddings", 16384), "code_width": codes.positive("embed_dim", 8),
        # The library recomputes it from the tower's sizes; vq_config.json may state another.
        "grid": tower.image_size // tower.patch_size,
    }
    return JanusConfig(
        llm=llm, vision=tower, vq=VQConfig(**{**sizes, **networks}),
        head_width=codes.positive("projection_dim", 2048), special_tokens=tokens,
        aligner_depth=vision.positive("depth", 2), gen_aligner_depth=codes.positive("num_hidden_layers", 2),
    )


def _language(reader: Fields) -> DecoderConfig:
    reader.unsupported(hidden_act="silu", attention_bias=False, mlp_bias=False, tie_word_embeddings=False,
                       rope_scaling=None)
    values = {**_LLAMA, **reader.values}
    if values.get("num_key_value_heads") is None:
        values["num_key_value_heads"] = values["num_attention_heads"]
    reader = Fields(values, reader.file)
    config = DecoderConfig.read(reader, _LLAMA["max_position_embeddings"], qkv_bias=False)
    even = config.head_dim % 2 == 0 and reader.positive("head_dim", config.head_dim) == config.head_dim
    reader.check("num_attention_heads", even, f"heads of an even width that share hidden_size {config.hidden_size}",
                 config.num_heads)
    return config


def _networks(values: dict[str, Any] | None, source: str) -> dict[str, Any]:
    """Fields of `VQConfig` that `vq_config.json` states."""
    if values is None:
        return {}
    reader = Fields(values, f"{source}/vq_config.json")
    reader.unsupported(in_channels=3, out_channels=3)
    names = {"ch": "ch", "num_res_blocks": "num_res_blocks", "z_channels": "z_channels", "num_groups": "num_groups",
             "codebook_size": "codebook_size", "codebook_embed_dim": "code_width", "grid": "grid"}
    found: dict[str, Any] = {ours: reader.positive(field) for field, ours in names.items() if field in values}
    return found | ({"ch_mult": reader.positives("ch_mult")} if "ch_mult" in values else {})


def _equal(reader: Fields, field: str, expected: int, what: str) -> None:
    found = reader.positive(field)
    reader.check(field, found == expected, f"{expected} ({what})", found)


def _check(config: JanusConfig, file: str) -> None:
    """Refuses sizes that do not go together."""
    for name in ("aligner_depth", "gen_aligner_depth"):
        if getattr(config, name) > MAX_DEPTH:
            raise ConfigError(f"{file}: {name.removesuffix('_depth')}_config: field 'depth': expected at most "
                              f"{MAX_DEPTH}, found {getattr(config, name)}.")
    if config.vision.image_size % config.vision.patch_size:
        raise ConfigError(f"{file}: vision_config: field 'image_size': expected a multiple of the patch size "
                          f"{config.vision.patch_size}, found {config.vision.image_size}.")
    if odd := [width for width in (1, *config.vq.ch_mult) if config.vq.ch * width % config.vq.num_groups]:
        raise ConfigError(f"{file}: VQ networks: expected widths that {config.vq.num_groups} groups of normalisation "
                          f"divide, found {config.vq.ch * odd[0]}; vq_config.json beside it may state 'num_groups'.")
    check_tokens(config.special_tokens, config.llm.vocab_size, file)
