"""Ablation: no global reward, alpha = 1 for every image.

    python -m srum_jax.train --experiment=bagel_no_global --workdir gs://BUCKET/runs/bagel_no_global \\
        --set model.checkpoint=gs://BUCKET/bagel --set data.records=gs://BUCKET/records

Hardware, time and score: not measured yet.
"""

from experiments._bagel_recipe import paper_recipe, with_reward_map
from srum_jax.training.experiment import Experiment


def experiment() -> Experiment:
    """The regional rewards alone."""
    return with_reward_map(paper_recipe("bagel_no_global"), use_global=False)
