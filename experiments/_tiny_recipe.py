"""The recipe of the tiny world: a trained base of the shapes world, improved by its own rewards on two CPU cores."""

import os
from collections.abc import Mapping
from typing import Any

from experiments._bagel_recipe import changed
from srum_jax.data.config import DataConfig
from srum_jax.experiment import ExperimentError
from srum_jax.families.bagel.config import BagelRows
from srum_jax.families.janus_pro.config import JanusRows
from srum_jax.mesh_config import MeshConfig
from srum_jax.models.compute import ComputeConfig
from srum_jax.objectives.config import RewardWeighted
from srum_jax.rewards.reward_map import RewardMapConfig
from srum_jax.training.config import EmaConfig, ModelSource, OptimizerConfig, TrainingConfig
from srum_jax.training.experiment import Experiment
from srum_jax.worlds.shapes.base import trained_base, trained_janus
from srum_jax.worlds.shapes.questions import PICTURE_SIZE

_LATENT_TOKENS = (PICTURE_SIZE // 8) ** 2  # of a picture

# What each variant changes. All read the same records.
VARIANTS = {
    "sft": {"objective": {"reward_coefficient": 0.0, "reference_coefficient": 1.0}},
    "official": {"objective": {"reward_map": RewardMapConfig.official()}},
    "paper": {},
    "no_global": {"objective": {"reward_map": RewardMapConfig.paper(use_global=False)}},
    "no_reference": {"objective": {"reference_coefficient": 0.0}},
    "sparse": {"objective": {"reward_map": RewardMapConfig.paper(binarize="region")}},
    "lambda_0.25": {"objective": {"reference_coefficient": 0.25}},
    "lambda_1": {"objective": {"reference_coefficient": 1.0}},
}


def tiny_recipe(variant: str, base: str = "bagel") -> Experiment:
    """One way of post-training a base; `data.records` is given on the command line.

    Args:
      variant: a name in VARIANTS.
      base: "bagel" or "janus".

    Raises:
      ExperimentError: there is no such variant.
    """
    name, own = _OWN[base]()
    recipe = Experiment(
        name=f"{name}_{variant}",
        data=DataConfig(rows_per_batch=16, text_dropout=0.1, num_workers=0, num_threads=2),
        optimizer=OptimizerConfig(learning_rate=1e-4, warmup_steps=20),
        ema=EmaConfig(decay=0.98),  # what is exported: a constant rate leaves noise in the weights themselves
        compute=ComputeConfig(dtype="float32", attention="dense", remat="none"),
        mesh=MeshConfig(),
        training=TrainingConfig(steps=300, save_every=300, log_every=20),
        **own,
    )
    return with_variant(recipe, f"{name}_srum", variant, VARIANTS)


def with_variant(
    recipe: Experiment, experiment: str, name: str, variants: Mapping[str, Mapping[str, Any]]
) -> Experiment:
    """The recipe of an experiment as one of its variants has it.

    Raises:
      ExperimentError: there is no such variant.
    """
    if name not in variants:
        raise ExperimentError(f"{experiment}: expected one of {', '.join(variants)} behind the colon, found {name!r}.")
    return changed(recipe, **variants[name])


def _bagel() -> tuple[str, dict[str, Any]]:
    """The understanding expert stays as it is: the judge of a second round is no worse than that of the first."""
    return "tiny", {
        "model": ModelSource(checkpoint=os.fspath(trained_base()), trainable=("generation_expert",)),
        "rows": BagelRows(
            samples_per_row=2, images_per_row=2, text_capacity=80,
            latent_capacity=2 * _LATENT_TOKENS, image_height=PICTURE_SIZE, image_width=PICTURE_SIZE,
            max_size=PICTURE_SIZE, min_size=PICTURE_SIZE, stride=8,
        ),
        "objective": _objective(),
    }


def _janus() -> tuple[str, dict[str, Any]]:
    """One decoder judges and draws, so training changes the judge too. Weights are cut at 0: see `_janus_recipe`."""
    return "tiny_janus", {
        "model": ModelSource(family="janus_pro", checkpoint=os.fspath(trained_janus())),
        "rows": JanusRows(samples_per_row=2, text_capacity=32),
        "objective": _objective(factor_floor=0.0),
    }


def _objective(**more: Any) -> RewardWeighted:
    return RewardWeighted(reward_coefficient=1.0, reference_coefficient=0.5, reward_map=RewardMapConfig.paper(), **more)


_OWN = {"bagel": _bagel, "janus": _janus}
