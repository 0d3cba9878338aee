"""The embedded default: a tiny BAGEL on procedural images of coloured shapes. Downloads nothing.

    python -m srum_jax.train --experiment=tiny --workdir runs/tiny

The records are drawn into the work directory, 40 % of the images deliberately wrong, with exact scores; the model has
a random start. Two CPU cores are enough.
"""

from experiments._tiny_records import prepare
from experiments._tiny_rewards import rewards
from srum_jax.data.config import DataConfig
from srum_jax.families.bagel.config import BagelRows
from srum_jax.mesh_config import MeshConfig
from srum_jax.models.compute import ComputeConfig
from srum_jax.objectives.config import RewardWeighted
from srum_jax.rewards.reward_map import RewardMapConfig
from srum_jax.training.config import ModelSource, OptimizerConfig, TrainingConfig
from srum_jax.training.experiment import Experiment

__all__ = ["experiment", "prepare", "rewards"]


def experiment() -> Experiment:
    """The objective of the paper at a scale of seconds; a larger rate, as the model starts from nothing."""
    return Experiment(
        name="tiny",
        model=ModelSource(family="bagel"),
        data=DataConfig(rows_per_batch=8, text_dropout=0.1, num_workers=0, num_threads=2),
        rows=BagelRows(
            samples_per_row=2, images_per_row=2, text_capacity=96, latent_capacity=2 * 8 * 8,
            image_height=64, image_width=64, max_size=64, min_size=64, stride=8,
        ),
        objective=RewardWeighted(
            reward_coefficient=1.0, reference_coefficient=0.5, reward_map=RewardMapConfig.paper()
        ),
        optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=20),
        compute=ComputeConfig(dtype="float32", attention="dense", remat="none"),
        mesh=MeshConfig(),
        training=TrainingConfig(steps=200, save_every=50, log_every=10),
    )
