"""SUDER on BAGEL-7B-MoT, a flow model: R_G is exact, R_U is a surrogate from velocity errors (docs/suder.md).

    python -m srum_jax.train --experiment=suder_bagel --workdir gs://BUCKET/runs/suder_bagel \\
        --set model.checkpoint=gs://BUCKET/bagel --set rollouts.prompts=prompts.txt --set rollouts.pictures=pictures

The paper trains Janus-Pro, whose rewards are all exact; this is a counterpart for flow models, not its recipe. Measure
the rewards first (`python -m tools.measure_rewards`).

Hardware, time and score: not measured yet.
"""

from srum_jax.data.config import DataConfig
from srum_jax.families.bagel.config import BagelRows
from srum_jax.families.bagel.sampler import FlowSampler, Guidance
from srum_jax.mesh_config import MeshConfig
from srum_jax.models.compute import ComputeConfig
from srum_jax.objectives.config import Joint, Preference, RewardWeighted
from srum_jax.rollouts.config import RolloutConfig
from srum_jax.training.config import ModelSource, OptimizerConfig, TrainingConfig
from srum_jax.training.experiment import Experiment

_SIDE = 512  # pixels
_DRAWINGS, _READINGS = 16, 2  # slots of a row: two prompts with eight pictures each, and one pair of captions


def experiment() -> Experiment:
    """64 prompts and 32 pictures a round in 32 rows; weighted flow matching for pictures, SimPO for captions."""
    return Experiment(
        name="suder_bagel",
        model=ModelSource(family="bagel", parts=("vit",), timestep_shift=4.0),
        data=DataConfig(rows_per_batch=32, text_dropout=0.1),
        rows=BagelRows(
            samples_per_row=_DRAWINGS + _READINGS, images_per_row=_DRAWINGS + _READINGS,
            text_capacity=2048, vit_capacity=70 * 70 * _READINGS, ce_capacity=130 * _READINGS,
            latent_capacity=(_SIDE // 16) ** 2 * _DRAWINGS, image_height=_SIDE, image_width=_SIDE,
            max_size=_SIDE, min_size=_SIDE, latents="stored",
        ),
        objective=Joint(generation=RewardWeighted(reference_coefficient=0.0), understanding=Preference()),
        rollouts=RolloutConfig(
            height=_SIDE, width=_SIDE,
            # Without guidance: pictures that were drawn with it teach it.
            sampler=FlowSampler(num_timesteps=25, guidance=Guidance(text_scale=1.0)),
        ),
        optimizer=OptimizerConfig(learning_rate=1e-6, warmup_steps=5),
        compute=ComputeConfig(dtype="bfloat16", attention="auto", remat="full"),
        mesh=MeshConfig(data=-1, fsdp=32),
        training=TrainingConfig(steps=88, save_every=8, log_every=1),
        seed=4396,
    )
