"""SUDER on the tiny Janus-Pro of the shapes world: the paper's setting, with both rewards exact, on two CPU cores.

    python -m srum_jax.train --experiment=suder_tiny --workdir runs/suder_tiny
    python -m tools.convert_weights export --checkpoint runs/suder_tiny \\
        --template srum_jax/worlds/shapes/janus_weights --out runs/suder_tiny_model

A variant follows a colon: `suder_tiny:grpo`; `experiments.tiny_suder` compares them.

Starts from the trained base, which says sentences of the prompts' grammar about pictures. Prompts and pictures are
drawn into the work directory. Forty rounds take some minutes; what they teach is in docs/suder.md.
"""

import os
from typing import Any

from experiments._tiny_recipe import with_variant
from experiments._tiny_rounds import VARIANTS_OF_BOTH, prepare
from srum_jax.data.config import DataConfig
from srum_jax.families.janus_pro.config import JanusRows
from srum_jax.families.janus_pro.sampler import CodeSampler
from srum_jax.inference.settings import TextSampler
from srum_jax.mesh_config import MeshConfig
from srum_jax.models.compute import ComputeConfig
from srum_jax.objectives.config import Joint, PolicyGradient
from srum_jax.rewards.dual_config import DualRewards
from srum_jax.rollouts.config import RolloutConfig
from srum_jax.training.config import ModelSource, OptimizerConfig, TrainingConfig
from srum_jax.training.experiment import Experiment
from srum_jax.worlds.shapes.base import trained_janus
from srum_jax.worlds.shapes.questions import CAPTION_QUESTION

__all__ = ["VARIANTS", "experiment", "prepare"]

# What each variant changes.
VARIANTS: dict[str, dict[str, Any]] = {
    "simpo": {},
    "grpo": {"objective": {"generation": PolicyGradient(), "understanding": PolicyGradient()},
             "rows": {"samples_per_row": 8, "readings_per_row": 4}},  # all members of a group and not two
    **VARIANTS_OF_BOTH,
}


def experiment(variant: str = "simpo") -> Experiment:
    """Eight prompts and four pictures a round, the best and the worst of four outputs each, by SimPO; or a variant."""
    recipe = Experiment(
        name="suder_tiny",
        model=ModelSource(checkpoint=os.fspath(trained_janus()), parts=("vision",)),
        data=DataConfig(rows_per_batch=4, text_dropout=0.0),
        # Two pairs of pictures, and one of captions; the codes are those that were drawn.
        rows=JanusRows(samples_per_row=4, text_capacity=48, codes="stored", readings_per_row=2, reading_capacity=96,
                       answer_capacity=34),
        objective=Joint(),
        rollouts=RolloutConfig(
            prompts_per_round=8, pictures_per_round=4, group_size=4, batch_size=16, audit_every=10,
            rewards=DualRewards(request=CAPTION_QUESTION),
            # Without guidance: pictures that were drawn with it teach it.
            sampler=CodeSampler(guidance=1.0), caption=TextSampler(max_tokens=32, temperature=1.0),
        ),
        optimizer=OptimizerConfig(learning_rate=2e-4, warmup_steps=2, eps=1e-8),
        compute=ComputeConfig(dtype="float32", attention="dense", remat="none"),
        mesh=MeshConfig(),
        training=TrainingConfig(steps=40, save_every=10, log_every=1),
    )
    return with_variant(recipe, recipe.name, variant, VARIANTS)
