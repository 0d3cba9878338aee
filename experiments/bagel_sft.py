"""Plain supervised fine-tuning on the same records: no reward at all.

    python -m srum_jax.train --experiment=bagel_sft --workdir gs://BUCKET/runs/bagel_sft \\
        --set model.checkpoint=gs://BUCKET/bagel --set data.records=gs://BUCKET/records

Hardware, time and score: not measured yet.
"""

from experiments._bagel_recipe import changed, paper_recipe
from srum_jax.training.experiment import Experiment


def experiment() -> Experiment:
    """Only the reference term, with weight 1."""
    objective = {"reward_coefficient": 0.0, "reference_coefficient": 1.0}
    return changed(paper_recipe("bagel_sft"), objective=objective)
