"""How the tiny model of the shapes world makes its own reward records."""

import os
from typing import Any

from etils import epath

_PROMPTS_PER_CATEGORY = 24
_LARGEST = 0.4  # share of the picture; larger is the ground, about which the judge has learned nothing
_POINTS_PER_SIDE = 8  # in half the time of 12; these still find every object that lies apart
SEED = 7  # of the prompts


def rewards(folder: epath.PathLike, base: str = "bagel") -> dict[str, dict[str, Any]]:
    """Arguments of the stages of `tools.make_rewards run`; writes the prompts into the folder.

    The judge answers about one region at a time, names it, and does not think. Its question about the whole picture is
    about everything that the prompt asks for, so its score is not held to a neutral band.

    Args:
      folder: of the run.
      base: that draws and judges, a name of `_tiny_bases.bases.BASES`.
    """
    # An experiment's settings are looked at long before its rewards are made, and need none of this.
    from experiments._tiny_bases.bases import BASES
    from experiments._tiny_sam.generator import SAM_ARGUMENTS, TINY_WORLD
    from srum_jax.worlds.shapes.base import trained_sam
    from srum_jax.worlds.shapes.prompt_set import PROMPT_FORMAT, balanced_prompts, write_prompt_files, write_questions
    from srum_jax.worlds.shapes.questions import JUDGE_TEMPLATES

    chosen = balanced_prompts(_PROMPTS_PER_CATEGORY, SEED, held_out=False)
    write_questions(epath.Path(folder) / "inputs", chosen)  # for whoever judges by them
    prompts, keywords = write_prompt_files(epath.Path(folder) / "inputs", chosen)
    own = BASES[base]
    model = {"checkpoint": os.fspath(own.checkpoint()), "dtype": "float32", "attention": "dense"}
    return {
        "generate": model | {
            "prompts": os.fspath(prompts), "prompt_format": PROMPT_FORMAT, "keywords": os.fspath(keywords),
            "set_name": "shapes", "num_candidates": 2, "batch_size": 64,
            "output.num_shards": 2, **own.drawing,
        },
        "segment": {
            "sam_model": os.fspath(trained_sam()), "max_share": _LARGEST,
            **{f"sam.{name}": getattr(TINY_WORLD, name) for name in SAM_ARGUMENTS},
            "sam.points_per_side": _POINTS_PER_SIDE,
        },
        "judge": model | {
            "judge_templates": os.fspath(JUDGE_TEMPLATES), "batch_size": 128, "judge.one_by_one": True,
            "judge.verify": "single", "judge.severity": "off", "judge.neutral_band": "judge", "judge.think": False,
            "judge.max_attempts": 1,
        },
        "export": {},
    }


def planned_first() -> dict[str, Any]:
    """More arguments of `generate`, for a model that has learned to plan (`experiments.tiny_think`)."""
    from experiments._tiny_think.plans import PLAN_TOKEN_LIMIT, THINK_TEMPLATES

    return {"think": "true", "templates": os.fspath(THINK_TEMPLATES), "plan.max_tokens": PLAN_TOKEN_LIMIT}
