"""Ablation on BLIP3o: no global reward, alpha = 1 for every image.

    python -m srum_jax.train --experiment=blip3o_no_global --workdir gs://BUCKET/runs/blip3o_no_global \\
        --set model.checkpoint=gs://BUCKET/blip3o_8b --set data.records=gs://BUCKET/records

Hardware, time and score: not measured yet.
"""

from experiments._bagel_recipe import with_reward_map
from experiments._blip3o_recipe import blip3o_recipe
from srum_jax.training.experiment import Experiment


def experiment() -> Experiment:
    """The regional rewards alone."""
    return with_reward_map(blip3o_recipe("blip3o_no_global"), use_global=False)
