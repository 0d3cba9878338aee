"""The paper's recipe with LoRA on the generation expert, for slices too small for the optimizer state of the whole.

    python -m srum_jax.train --experiment=bagel_lora --workdir gs://BUCKET/runs/bagel_lora \\
        --set model.checkpoint=gs://BUCKET/bagel --set data.records=gs://BUCKET/records

Rank, alpha, learning rate and warm-up are choices of ours; the paper trains all weights. Other ranks:
`--set model.lora.rank=64 --set model.lora.alpha=128`.

Hardware, time and score: not measured yet.
"""

from experiments._bagel_recipe import changed, paper_recipe
from srum_jax.training.config import LoraConfig
from srum_jax.training.experiment import Experiment


def experiment() -> Experiment:
    """Low-rank factors beside every linear map of the generation expert's layers, and nothing else."""
    return changed(
        paper_recipe("bagel_lora"),
        model={"lora": LoraConfig(rank=32, alpha=64.0)},
        optimizer={"learning_rate": 1e-4, "warmup_steps": 100},
    )
