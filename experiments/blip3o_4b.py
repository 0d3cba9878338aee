"""SRUM on BLIP3o-4B; the sizes are those of the checkpoint, and only the name of the run differs.

    python -m srum_jax.train --experiment=blip3o_4b --workdir gs://BUCKET/runs/blip3o_4b \\
        --set model.checkpoint=gs://BUCKET/blip3o_4b --set data.records=gs://BUCKET/records

Hardware, time and score: not measured yet.
"""

from experiments._blip3o_recipe import blip3o_recipe, rewards
from srum_jax.training.experiment import Experiment

__all__ = ["experiment", "rewards"]


def experiment() -> Experiment:
    """As for the larger model."""
    return blip3o_recipe("blip3o_4b")
