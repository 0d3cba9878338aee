"""SRUM on BAGEL with records of candidates that were generated without think mode.

    python -m srum_jax.train --experiment=bagel --workdir gs://BUCKET/runs/bagel \\
        --set model.checkpoint=gs://BUCKET/bagel --set data.records=gs://BUCKET/records

Hardware, time and score: not measured yet.
"""

from typing import Any

from etils import epath

from experiments._bagel_recipe import paper_recipe, paper_rewards
from srum_jax.training.experiment import Experiment


def experiment() -> Experiment:
    """The paper's recipe on records of another kind; only the name differs from bagel_cot."""
    return paper_recipe("bagel")


def rewards(folder: epath.Path) -> dict[str, dict[str, Any]]:
    """Candidates without a plan."""
    return paper_rewards(think=False)
