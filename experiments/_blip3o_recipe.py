"""SRUM on BLIP3o, which the experiments vary. Nobody has published code or settings for it."""

import dataclasses
from typing import Any

from etils import epath

from experiments._bagel_recipe import paper_recipe
from srum_jax.families.blip3o.config import Blip3oRows
from srum_jax.models.compute import ComputeConfig
from srum_jax.training.config import ModelSource
from srum_jax.training.experiment import Experiment


def blip3o_recipe(name: str) -> Experiment:
    """The paper's recipe for BAGEL (objective, optimizer, sixteen samples a step), with what is BLIP3o's own.

    Trained are the diffusion transformer and the queries; times are not shifted, as in BLIP3o's own training.
    """
    return dataclasses.replace(
        paper_recipe(name),
        model=ModelSource(family="blip3o"),
        # A prompt of 20 words takes about 60 tokens with what is put around it, and 65 for the picture.
        rows=Blip3oRows(samples_per_row=2, text_capacity=192),
        compute=ComputeConfig(dtype="bfloat16", attention="dense", remat="full"),
    )


def rewards(folder: epath.Path) -> dict[str, dict[str, Any]]:
    """Arguments of the stages of `tools.make_rewards run`: regions are those that the model names and finds itself."""
    return {"generate": {"prompt_format": "t2i_compbench"}, "segment": {"provider": "grounding"}}
