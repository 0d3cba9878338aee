"""Ablation on BLIP3o: sparse rewards, 1 for a region with a positive score and 0 for any other.

    python -m srum_jax.train --experiment=blip3o_sparse --workdir gs://BUCKET/runs/blip3o_sparse \\
        --set model.checkpoint=gs://BUCKET/blip3o_8b --set data.records=gs://BUCKET/records

Hardware, time and score: not measured yet.
"""

from experiments._bagel_recipe import with_reward_map
from experiments._blip3o_recipe import blip3o_recipe
from srum_jax.training.experiment import Experiment


def experiment() -> Experiment:
    """Scores are binarised before they are painted."""
    return with_reward_map(blip3o_recipe("blip3o_sparse"), binarize="region")
