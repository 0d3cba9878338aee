"""SRUM on Janus-Pro, which the experiments vary. The paper leaves such models out; nobody has published settings."""

import dataclasses

from experiments._bagel_recipe import changed, paper_recipe
from srum_jax.families.janus_pro.config import JanusRows
from srum_jax.models.compute import ComputeConfig
from srum_jax.training.config import ModelSource
from srum_jax.training.experiment import Experiment


def janus_recipe(name: str) -> Experiment:
    """The paper's recipe for BAGEL (objective, optimizer, sixteen samples a step), with what is Janus-Pro's own.

    The error of a code is minus its log probability, which has no upper bound: a negative weight would be paid best by
    driving one code's probability to nothing. So weights are cut at 0; `--set objective.factor_floor=none` takes the
    paper's as they are.
    """
    recipe = dataclasses.replace(
        paper_recipe(name),
        model=ModelSource(family="janus_pro"),
        # A prompt of 20 words takes about 35 tokens with what is put around it.
        rows=JanusRows(samples_per_row=2, text_capacity=128),
        compute=ComputeConfig(dtype="bfloat16", attention="dense", remat="full"),
    )
    return changed(recipe, objective={"factor_floor": 0.0})
