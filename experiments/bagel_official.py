"""SRUM on BAGEL as the authors' scripts run it; docs/from_official.md lists what differs from the paper.

    python -m srum_jax.train --experiment=bagel_official --workdir gs://BUCKET/runs/bagel_official \\
        --set model.checkpoint=gs://BUCKET/bagel --set data.records=gs://BUCKET/records

Hardware, time and score: not measured yet.
"""

from typing import Any

from etils import epath

from experiments._bagel_recipe import official_recipe, official_rewards
from srum_jax.training.experiment import Experiment


def experiment() -> Experiment:
    """The released script's recipe."""
    return official_recipe("bagel_official")


def rewards(folder: epath.Path) -> dict[str, dict[str, Any]]:
    """Verification off, the authors' reply parser and their filter."""
    return official_rewards()
