"""Ablation: no reference term, lambda_c = 0.

    python -m srum_jax.train --experiment=bagel_no_reference --workdir gs://BUCKET/runs/bagel_no_reference \\
        --set model.checkpoint=gs://BUCKET/bagel --set data.records=gs://BUCKET/records

Hardware, time and score: not measured yet.
"""

from experiments._bagel_recipe import changed, paper_recipe
from srum_jax.training.experiment import Experiment


def experiment() -> Experiment:
    """The reward term alone."""
    return changed(paper_recipe("bagel_no_reference"), objective={"reference_coefficient": 0.0})
