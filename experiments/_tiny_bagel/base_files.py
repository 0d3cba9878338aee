"""The JSON files of the trained base: a BAGEL for pictures of 48 x 48 pixels.

A latent token and a ViT patch both cover 8 x 8 pixels, so a picture is 36 of either, and both position tables have
exactly that size. The autoencoder is described in `autoencoder`.
"""

import copy
import dataclasses
from typing import Any

from experiments._tiny_bagel.autoencoder import CONFIG as AUTOENCODER
from srum_jax.models.bagel.config import BagelConfig
from srum_jax.worlds.shapes.bases.bagel import LLM, MODEL, VIT
from srum_jax.worlds.shapes.questions import PICTURE_SIZE

_PATCH = 8  # pixels of a latent token and of a ViT patch, along each side
_LLM = LLM | {"hidden_size": 128, "intermediate_size": 384, "num_attention_heads": 4}
_VIT = VIT | {"image_size": PICTURE_SIZE, "patch_size": _PATCH}
_MODEL = MODEL | {
    "latent_patch_size": _PATCH // AUTOENCODER.downsample,
    "max_latent_size": PICTURE_SIZE // _PATCH,
    "vit_max_num_patch_per_side": PICTURE_SIZE // _PATCH,
    "timestep_shift": 3.0,
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
