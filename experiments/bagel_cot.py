"""SRUM on BAGEL with records of candidates that were planned first (think mode): the paper's main recipe.

    python -m srum_jax.train --experiment=bagel_cot --workdir gs://BUCKET/runs/bagel_cot \\
        --set model.checkpoint=gs://BUCKET/bagel --set data.records=gs://BUCKET/records

Hardware, time and score: not measured yet.
"""

from typing import Any

from etils import epath

from experiments._bagel_recipe import paper_recipe, paper_rewards
from srum_jax.training.experiment import Experiment


def experiment() -> Experiment:
    """The paper's recipe; training conditions on the original prompt, whatever the plan was."""
    return paper_recipe("bagel_cot")


def rewards(folder: epath.Path) -> dict[str, dict[str, Any]]:
    """Candidates that are planned first."""
    return paper_rewards(think=True)
