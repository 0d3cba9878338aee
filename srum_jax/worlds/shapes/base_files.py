"""The JSON files of the trained base: a BAGEL for pictures of 48 x 48 pixels.

A latent token and a ViT patch both cover 8 x 8 pixels, so a picture is 36 of either, and both position tables have
exactly that size. The autoencoder is described in `pretraining.autoencoder`.
"""

import copy
import dataclasses
from typing import Any

from srum_jax.models.bagel.config import BagelConfig
from srum_jax.worlds.shapes.pretraining.autoencoder import CONFIG as AUTOENCODER
from srum_jax.worlds.shapes.questions import PICTURE_SIZE
from srum_jax.worlds.shapes.tokenizer import SPECIAL_TOKENS

_PATCH = 8  # pixels of a latent token and of a ViT patch, along each side
_LLM = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "vocab_size": 160,
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "max_position_embeddings": 512,
    "bos_token_id": SPECIAL_TOKENS.bos,
    "eos_token_id": SPECIAL_TOKENS.eos,
}
_VIT = {
    "model_type": "siglip_vision_model",
    "hidden_size": 96,
    "intermediate_size": 192,
    "num_hidden_layers": 3,  # as in the release, the last one is counted, and neither stored nor used
    "num_attention_heads": 4,
    "image_size": PICTURE_SIZE,
    "patch_size": _PATCH,
    "num_channels": 3,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
}
_MODEL = {
    "architectures": ["Bagel"],
    "model_type": "bagel",
    "visual_gen": True,
    "visual_und": True,
    "llm_qk_norm": True,
    "layer_module": "Qwen2MoTDecoderLayer",
    "tie_word_embeddings": False,
    "vit_select_layer": -2,
    "vit_rope": False,
    "special_token_ids": {
        "bos_token_id": SPECIAL_TOKENS.bos,
        "eos_token_id": SPECIAL_TOKENS.eos,
        "start_of_image": SPECIAL_TOKENS.start_of_image,
        "end_of_image": SPECIAL_TOKENS.end_of_image,
    },
    "latent_patch_size": _PATCH // AUTOENCODER.downsample,
    "max_latent_size": PICTURE_SIZE // _PATCH,
    "vit_max_num_patch_per_side": PICTURE_SIZE // _PATCH,
    "connector_act": "gelu_pytorch_tanh",
    "interpolate_pos": False,
    "timestep_shift": 1.0,
}


def trained_base_files(scale: float = 1.0, shift: float = 0.0) -> dict[str, dict[str, Any]]:
    """Names and contents of the configuration files.

    Args:
      scale: of the autoencoder's latents, 1 / their standard deviation.
      shift: of the autoencoder's latents, their mean.
    """
    vae = dataclasses.asdict(AUTOENCODER) | {"scale_factor": scale, "shift_factor": shift}
    vae["ch_mult"] = list(vae["ch_mult"])
    files = {"llm_config.json": _LLM, "vit_config.json": _VIT, "vae_config.json": vae, "config.json": _MODEL}
    return copy.deepcopy(files)


def trained_base_config(scale: float = 1.0, shift: float = 0.0) -> BagelConfig:
    """The configuration that these files describe; arguments as for `trained_base_files`."""
    llm, vit, vae, model = trained_base_files(scale, shift).values()
    return BagelConfig.from_json(llm=llm, vit=vit, vae=vae, model=model, source="shapes")
