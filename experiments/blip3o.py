"""SRUM on BLIP3o-8B: the understanding model is frozen, the diffusion transformer and the queries learn.

    python -m srum_jax.train --experiment=blip3o --workdir gs://BUCKET/runs/blip3o \\
        --set model.checkpoint=gs://BUCKET/blip3o_8b --set data.records=gs://BUCKET/records

Hardware, time and score: not measured yet.
"""

from experiments._blip3o_recipe import blip3o_recipe, rewards
from srum_jax.training.experiment import Experiment

__all__ = ["experiment", "rewards"]


def experiment() -> Experiment:
    """The paper's objective on BLIP3o."""
    return blip3o_recipe("blip3o")
