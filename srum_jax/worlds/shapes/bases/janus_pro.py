"""The small files of a tiny Janus-Pro of the shapes world, in the authors' layout: sizes and tokenizer."""

import json
from typing import Any

from tokenizers import AddedToken, Tokenizer

from srum_jax.models.janus_pro.config import JanusConfig
from srum_jax.models.janus_pro.prompts import ASSISTANT, USER
from srum_jax.models.janus_pro.tokens import NAMES, SpecialTokens
from srum_jax.worlds.shapes.questions import PICTURE_SIZE
from srum_jax.worlds.shapes.tokenizer import build_tokenizer, vocabulary

_NAMED = (*NAMES.values(), USER, ASSISTANT)
# Behind the words, in this order; as many as make a vocabulary that meshes divide.
ADDED = (*(f"<|unused_{i}|>" for i in range(-(len(vocabulary()) + len(_NAMED)) % 8)), *_NAMED)
VOCABULARY_SIZE = len(vocabulary()) + len(ADDED)


def janus_tokenizer() -> Tokenizer:
    """The world's tokenizer with the control tokens of Janus-Pro."""
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in ADDED])
    return tokenizer


def janus_files(
    *, llm: dict[str, Any], tower: dict[str, Any], vq: dict[str, Any], head_width: int
) -> dict[str, dict[str, Any]]:
    """Names and contents of the files that state sizes.

    Args:
      llm: of the language model, as Llama names them; the vocabulary is added.
      tower: `siglip_config.json`.
      vq: `vq_config.json`.
      head_width: between the two maps of the head over codes.
    """
    width, codes, code_width = llm["hidden_size"], vq["codebook_size"], vq["codebook_embed_dim"]

    def block(kind: str, **params: Any) -> dict[str, Any]:
        return {"cls": kind, "params": params}

    def aligner(inputs: int) -> dict[str, Any]:
        return block("MlpProjector", depth=2, input_dim=inputs, n_embed=width, projector_type="mlp_gelu")

    model = {
        "model_type": "multi_modality",
        "language_config": {"vocab_size": VOCABULARY_SIZE, **llm},
        "vision_config": block("CLIPVisionTower", image_size=PICTURE_SIZE, model_name="shapes", select_layer=-1),
        "aligner_config": aligner(tower["width"]),
        "gen_vision_config": block("VQ-16", image_token_size=codes, n_embed=code_width),
        "gen_aligner_config": aligner(code_width),
        "gen_head_config": block("vision_head", image_token_embed=head_width, image_token_size=codes, n_embed=width),
    }
    return {"config.json": model, "siglip_config.json": tower, "vq_config.json": vq}


def janus_config(files: dict[str, dict[str, Any]]) -> JanusConfig:
    """The configuration that such files and the tokenizer describe."""
    known = janus_tokenizer().get_vocab()
    tokens = SpecialTokens(**{field: known[name] for field, name in NAMES.items()})
    return JanusConfig.from_json(files["config.json"], siglip=files["siglip_config.json"],
                                 vq=files["vq_config.json"], tokens=tokens, source="shapes")


def janus_tokenizer_files() -> dict[str, str]:
    """Names and contents of the tokenizer's files."""
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False,
                "model_max_length": 512, "bos_token": NAMES["bos"], "eos_token": NAMES["eos"],
                "pad_token": NAMES["pad"]}
    return {"tokenizer.json": janus_tokenizer().to_str(pretty=True),
            "tokenizer_config.json": json.dumps(settings, indent=2, ensure_ascii=False) + "\n"}
