"""SRUM on BAGEL as the authors' scripts run it; docs/from_official.md lists what differs from the paper.

    python -m srum_jax.train --experiment=bagel_official --workdir gs://BUCKET/runs/bagel_official \\
        --set model.checkpoint=gs://BUCKET/bagel --set data.records=gs://BUCKET/records

Hardware, time and score: not measured yet.
"""

from typing import Any

from etils import epath

from experiments._bagel_recipe import changed, paper_recipe
from srum_jax.rewards.reward_map import RewardMapConfig
from srum_jax.training.experiment import Experiment


def experiment() -> Experiment:
    """What the authors' scripts run: unsigned map, 2e-5 after 100 steps, 309 steps, times not shifted."""
    return changed(
        paper_recipe("bagel_official"),
        model={"timestep_shift": 1.0},
        rows={"stride": 256},
        objective={"reward_map": RewardMapConfig.official(box_space="unscaled")},
        optimizer={"learning_rate": 2e-5, "warmup_steps": 100},
        training={"steps": 309, "save_every": 308},
    )


def rewards(folder: epath.Path) -> dict[str, dict[str, Any]]:
    """Verification off, the authors' reply parser and their filter."""
    return {
        "generate": {"think": True, "prompt_format": "t2i_compbench", "output.crop_black_border": True},
        "segment": {"max_candidates": 10},
        "judge": {"preset": "official"},
        "export": {"preset": "official"},
    }
