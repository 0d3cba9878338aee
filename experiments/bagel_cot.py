"""SRUM on BAGEL with records of candidates that were planned first (think mode): the paper's main recipe.

    python -m srum_jax.train --experiment=bagel_cot --workdir gs://BUCKET/runs/bagel_cot \\
        --set model.checkpoint=gs://BUCKET/bagel --set data.records=gs://BUCKET/records

Hardware, time and score: not measured yet.
"""

from experiments._bagel_recipe import paper_recipe
from srum_jax.experiment import Experiment


def experiment() -> Experiment:
    """The paper's recipe; training conditions on the original prompt, whatever the plan was."""
    return paper_recipe("bagel_cot")
