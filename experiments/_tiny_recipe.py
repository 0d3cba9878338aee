"""The recipe of the tiny world: the trained base of the shapes world, improved by its own rewards on two CPU cores."""

import os

from experiments._bagel_recipe import changed
from srum_jax.data.config import DataConfig
from srum_jax.families.bagel.config import BagelRows
from srum_jax.mesh_config import MeshConfig
from srum_jax.models.compute import ComputeConfig
from srum_jax.objectives.config import RewardWeighted
from srum_jax.rewards.reward_map import RewardMapConfig
from srum_jax.training.config import EmaConfig, ModelSource, OptimizerConfig, TrainingConfig
from srum_jax.training.experiment import Experiment
from srum_jax.worlds.shapes.base import trained_base
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


def tiny_recipe(variant: str) -> Experiment:
    """One way of post-training the base; `data.records` is given on the command line.

    The understanding expert stays as it is, so that the judge of a second round is no worse than that of the first.

    Args:
      variant: a name in VARIANTS.
    """
    recipe = Experiment(
        name=f"tiny_{variant}",
        model=ModelSource(checkpoint=os.fspath(trained_base()), trainable=("generation_expert",)),
        data=DataConfig(rows_per_batch=16, text_dropout=0.1, num_workers=0, num_threads=2),
        rows=BagelRows(
            samples_per_row=2, images_per_row=2, text_capacity=80,
            latent_capacity=2 * _LATENT_TOKENS, image_height=PICTURE_SIZE, image_width=PICTURE_SIZE,
            max_size=PICTURE_SIZE, min_size=PICTURE_SIZE, stride=8,
        ),
        objective=RewardWeighted(
            reward_coefficient=1.0, reference_coefficient=0.5, reward_map=RewardMapConfig.paper()
        ),
        optimizer=OptimizerConfig(learning_rate=1e-4, warmup_steps=20),
        ema=EmaConfig(decay=0.98),  # what is exported: a constant rate leaves noise in the weights themselves
        compute=ComputeConfig(dtype="float32", attention="dense", remat="none"),
        mesh=MeshConfig(),
        training=TrainingConfig(steps=300, save_every=300, log_every=20),
    )
    return changed(recipe, **VARIANTS[variant])
