"""Ablation: sparse rewards, 1 for a region with a positive score and 0 for any other.

    python -m srum_jax.train --experiment=bagel_sparse --workdir gs://BUCKET/runs/bagel_sparse \\
        --set model.checkpoint=gs://BUCKET/bagel --set data.records=gs://BUCKET/records

Hardware, time and score: not measured yet.
"""

from experiments._bagel_recipe import paper_recipe, with_reward_map
from srum_jax.training.experiment import Experiment


def experiment() -> Experiment:
    """Scores are binarised before they are painted."""
    return with_reward_map(paper_recipe("bagel_sparse"), binarize="region")
