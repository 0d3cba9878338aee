"""SRUM in the shapes world by Janus-Pro: its tiny base learns from its own reward records, code by code.

    python -m tools.make_rewards run --experiment tiny_janus_srum --out runs/tiny_janus_rewards
    python -m srum_jax.train --experiment=tiny_janus_srum --workdir runs/tiny_janus_srum \\
        --set data.records=runs/tiny_janus_rewards/export

A variant follows a colon: `tiny_janus_srum:sft`. `experiments.tiny_study --base janus` compares them.
"""

from typing import Any

from etils import epath

from experiments._tiny_recipe import tiny_recipe
from experiments._tiny_rewards import rewards as rewards_of
from srum_jax.training.experiment import Experiment


def experiment(variant: str = "paper") -> Experiment:
    """The recipe, or a variant of it."""
    return tiny_recipe(variant, "janus")


def rewards(folder: epath.Path) -> dict[str, dict[str, Any]]:
    """Candidates and judgements of the base itself."""
    return rewards_of(folder, "janus")
