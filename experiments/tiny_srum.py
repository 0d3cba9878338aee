"""SRUM in the shapes world: its trained base learns from its own reward records.

    python -m tools.make_rewards run --experiment tiny_srum --out runs/tiny_rewards
    python -m srum_jax.train --experiment=tiny_srum --workdir runs/tiny_srum \\
        --set data.records=runs/tiny_rewards/export

A variant follows a colon: `tiny_srum:sft`, `tiny_srum:official`; `experiments.tiny_study` compares them.
"""

from experiments._tiny_recipe import tiny_recipe
from experiments._tiny_rewards import rewards
from srum_jax.training.experiment import Experiment

__all__ = ["experiment", "rewards"]


def experiment(variant: str = "paper") -> Experiment:
    """The recipe, or a variant of it."""
    return tiny_recipe(variant)
