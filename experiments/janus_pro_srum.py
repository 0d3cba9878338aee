"""SRUM on Janus-Pro: each code of a picture learns by the reward of the region that it lies in.

    python -m srum_jax.train --experiment=janus_pro_srum --workdir gs://BUCKET/runs/janus_pro_srum \\
        --set model.checkpoint=gs://BUCKET/janus_pro_7b --set data.records=gs://BUCKET/records

Hardware, time and score: not measured yet.
"""

from typing import Any

from etils import epath

from experiments._bagel_recipe import paper_rewards
from experiments._janus_recipe import janus_recipe
from srum_jax.training.experiment import Experiment


def experiment() -> Experiment:
    """The paper's objective on codes."""
    return janus_recipe("janus_pro_srum")


def rewards(folder: epath.Path) -> dict[str, dict[str, Any]]:
    """Candidates of the model itself, without a plan."""
    return paper_rewards(think=False)
