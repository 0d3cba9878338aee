"""SUDER on Janus-Pro, the paper's own setting: both rewards are exact (docs/suder.md lists what is ours in it).

    python -m srum_jax.train --experiment=suder_janus --workdir gs://BUCKET/runs/suder_janus \\
        --set model.checkpoint=gs://BUCKET/janus_pro_7b --set rollouts.prompts=prompts.txt \\
        --set rollouts.pictures=pictures

For the model of 1B `--set optimizer.learning_rate=1e-6`.

Hardware, time and score: not measured yet.
"""

from srum_jax.data.config import DataConfig
from srum_jax.families.janus_pro.config import JanusRows
from srum_jax.families.janus_pro.sampler import CodeSampler
from srum_jax.mesh_config import MeshConfig
from srum_jax.models.compute import ComputeConfig
from srum_jax.objectives.config import Joint
from srum_jax.rollouts.config import RolloutConfig
from srum_jax.training.config import ModelSource, OptimizerConfig, TrainingConfig
from srum_jax.training.experiment import Experiment


def experiment() -> Experiment:
    """64 prompts and 32 pictures a round, the best and the worst of eight outputs each, by SimPO."""
    return Experiment(
        name="suder_janus",
        model=ModelSource(family="janus_pro", parts=("vision",)),
        data=DataConfig(rows_per_batch=32, text_dropout=0.0),
        # Two pairs of pictures, and one of captions; the codes are those that were drawn.
        rows=JanusRows(samples_per_row=4, text_capacity=128, codes="stored", readings_per_row=2, reading_capacity=896,
                       answer_capacity=160),
        objective=Joint(),
        rollouts=RolloutConfig(sampler=CodeSampler()),
        optimizer=OptimizerConfig(learning_rate=5e-7, warmup_steps=5, eps=1e-8),
        compute=ComputeConfig(dtype="bfloat16", attention="dense", remat="full"),
        mesh=MeshConfig(data=-1, fsdp=8),
        training=TrainingConfig(steps=88, save_every=8, log_every=1),
        seed=4396,
    )
