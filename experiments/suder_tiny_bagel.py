"""SUDER on the tiny BAGEL of the shapes world, a flow model: its own pictures and captions, rewarded by itself.

    python -m srum_jax.train --experiment=suder_tiny_bagel --workdir runs/suder_tiny_bagel

A variant follows a colon: `suder_tiny_bagel:shuffled`; `experiments.tiny_suder --base bagel` compares them.

Starts from the trained base. R_G, the likelihood of the prompt given the picture, is exact; R_U is a surrogate from
velocity errors. Prompts and pictures are drawn into the work directory. Two CPU cores are enough.

The base lists objects and was never taught to say a sentence about a picture, so this shows the machinery, not a gain:
docs/suder.md. Time and score: not measured yet.
"""

import os
from typing import Any

from experiments._tiny_recipe import with_variant
from experiments._tiny_rounds import VARIANTS_OF_BOTH, prepare
from srum_jax.data.config import DataConfig
from srum_jax.families.bagel.config import BagelRows
from srum_jax.families.bagel.sampler import FlowSampler, Guidance
from srum_jax.inference.settings import TextSampler
from srum_jax.mesh_config import MeshConfig
from srum_jax.models.compute import ComputeConfig
from srum_jax.objectives.config import Joint, Preference, RewardWeighted
from srum_jax.rewards.dual_config import DualRewards
from srum_jax.rollouts.config import RolloutConfig
from srum_jax.training.config import ModelSource, OptimizerConfig, TrainingConfig
from srum_jax.training.experiment import Experiment
from srum_jax.worlds.shapes.base import trained_base
from srum_jax.worlds.shapes.questions import PICTURE_SIZE, SEEN_QUESTION

__all__ = ["VARIANTS", "experiment", "prepare"]

VARIANTS: dict[str, dict[str, Any]] = {"weighted": {}, **VARIANTS_OF_BOTH}  # what each changes


def experiment(variant: str = "weighted") -> Experiment:
    """Eight prompts and four pictures a round, four outputs each: weighted flow matching and SimPO; or a variant."""
    drawings, readings = 8, 2  # slots of a row
    recipe = Experiment(
        name="suder_tiny_bagel",
        model=ModelSource(checkpoint=os.fspath(trained_base()), parts=("vit",)),
        data=DataConfig(rows_per_batch=4, text_dropout=0.0),
        rows=BagelRows(
            samples_per_row=drawings + readings, images_per_row=drawings + readings,
            text_capacity=32 * drawings + 48 * readings, vit_capacity=36 * readings, ce_capacity=34 * readings,
            latent_capacity=(PICTURE_SIZE // 8) ** 2 * drawings, image_height=PICTURE_SIZE, image_width=PICTURE_SIZE,
            max_size=PICTURE_SIZE, min_size=PICTURE_SIZE, stride=8, latents="stored",
        ),
        objective=Joint(generation=RewardWeighted(reference_coefficient=0.0), understanding=Preference()),
        rollouts=RolloutConfig(
            prompts_per_round=8, pictures_per_round=4, group_size=4, batch_size=16,
            rewards=DualRewards(request=SEEN_QUESTION, draws=8),
            # Without guidance: pictures that were drawn with it teach it.
            sampler=FlowSampler(num_timesteps=11, shift=3.0, guidance=Guidance(text_scale=1.0)),
            # The base is sure of what it sees: at temperature 1 all captions of a picture are the same.
            caption=TextSampler(max_tokens=32, temperature=2.0),
            audit_every=10,
        ),
        optimizer=OptimizerConfig(learning_rate=2e-5, warmup_steps=2),
        compute=ComputeConfig(dtype="float32", attention="dense", remat="none"),
        mesh=MeshConfig(),
        training=TrainingConfig(steps=40, save_every=10, log_every=1),
    )
    return with_variant(recipe, recipe.name, variant, VARIANTS)
