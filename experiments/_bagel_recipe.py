"""The paper's recipe for BAGEL-7B, which the experiments vary."""

import dataclasses
from collections.abc import Callable
from typing import Any

from srum_jax.data.config import DataConfig
from srum_jax.experiment import ExperimentError
from srum_jax.families.bagel.config import BagelRows
from srum_jax.mesh_config import MeshConfig
from srum_jax.models.compute import ComputeConfig
from srum_jax.objectives.config import RewardWeighted
from srum_jax.rewards.reward_map import RewardMapConfig
from srum_jax.training.config import ModelSource, OptimizerConfig, TrainingConfig
from srum_jax.training.experiment import Experiment


def paper_recipe(name: str) -> Experiment:
    """SRUM as the paper words it (arXiv 2510.12784): signed rewards, lambda 0.5, 2.5e-5 after 500 warm-up steps.

    Eight rows of two 1024-pixel samples a step, as published. On larger slices raise `data.rows_per_batch` with the
    number of chips, and `mesh.fsdp` to 32.
    """
    return Experiment(
        name=name,
        model=ModelSource(family="bagel", timestep_shift=4.0),
        data=DataConfig(rows_per_batch=8, text_dropout=0.1, num_workers=4),
        rows=BagelRows(
            samples_per_row=2, images_per_row=2,
            # Ample for prompts of about 20 words: four markers each, and every token that is left is padding.
            text_capacity=128, latent_capacity=2 * 64 * 64, image_height=1024, image_width=1024,
        ),
        objective=RewardWeighted(
            reward_coefficient=1.0, reference_coefficient=0.5, reward_map=RewardMapConfig.paper()
        ),
        optimizer=OptimizerConfig(
            learning_rate=2.5e-5, warmup_steps=500, beta1=0.9, beta2=0.95, eps=1e-15, weight_decay=0.0, clip_norm=1.0
        ),
        compute=ComputeConfig(dtype="bfloat16", attention="auto", remat="full"),
        mesh=MeshConfig(data=-1, fsdp=8),
        training=TrainingConfig(steps=1000, save_every=250, log_every=10),
        seed=4396,
    )


def paper_rewards(*, think: bool) -> dict[str, dict[str, Any]]:
    """Arguments of the stages of `tools.make_rewards run`; checkpoint, prompts and SAM come from its command line."""
    return {"generate": {"think": think, "prompt_format": "t2i_compbench"}}


def changed(experiment: Experiment, **groups: dict[str, Any]) -> Experiment:
    """The same experiment with some fields of some groups replaced, `changed(e, objective={"field": value})`."""
    replaced = {name: dataclasses.replace(getattr(experiment, name), **fields) for name, fields in groups.items()}
    return dataclasses.replace(experiment, **replaced)


def with_reward_map(experiment: Experiment, **fields: Any) -> Experiment:
    """The same experiment with some settings of its reward map replaced."""
    return changed(experiment, objective={"reward_map": dataclasses.replace(experiment.objective.reward_map, **fields)})


def with_reference_weight(recipe: Callable[[str], Experiment], model: str, text: str) -> Experiment:
    """A recipe under another lambda_c, as `MODEL_lambda_sweep:TEXT` gives it.

    Raises:
      ExperimentError: the text is no number.
    """
    try:
        weight = float(text)
    except ValueError:
        raise ExperimentError(f"{model}_lambda_sweep: expected a number behind the colon, found {text!r}.") from None
    return changed(recipe(f"{model}_lambda_{weight:g}"), objective={"reference_coefficient": weight})
