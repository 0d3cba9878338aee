"""Trains a very small Segment Anything on the shapes world, or measures one; PyTorch, one thread, a quarter of an hour.

It is a real `transformers.SamModel`, so that `tools.make_rewards segment --provider sam` can be run, and be tested,
with learned masks where nothing can be downloaded. The one that ships with the package was made by this command.
"""

import argparse
import dataclasses
import json
import platform
import sys
from collections.abc import Sequence
from typing import Any

from etils import epath

from experiments._tiny_sam.generator import POINTS_PER_SIDE, SAM_ARGUMENTS, TINY_WORLD
from experiments._tiny_sam.settings import TrainingSettings
from srum_jax.command_line import in_range, user_path
from srum_jax.errors import BadInput
from srum_jax.regions.sam import Sam, SamConfig
from srum_jax.stages.interruption import run_command
from srum_jax.storage.atomic_file import file_sha256, write_json
from srum_jax.worlds.shapes.base import RECIPE

CHECKPOINT = "sam"
_EPILOG = """
examples:
  python -m experiments.tiny_sam --out runs/tiny_sam                   # the checkpoint appears as runs/tiny_sam/sam
  python -m experiments.tiny_sam --out runs/more --start runs/tiny_sam/sam --overlapping 0.8 --steps 1200 --seed 1
  python -m experiments.tiny_sam --measure runs/tiny_sam/sam --scenes 500
  python -m experiments.tiny_sam --measure runs/tiny_sam/sam --points-per-side 16 --pred-iou-thresh 0.8
  python -m tools.make_rewards segment --out runs/comp --sam-model runs/tiny_sam/sam \\
      --set sam.points_per_side=12 --set sam.pred_iou_thresh=0.7 --set sam.stability_score_thresh=0.7

An interrupted run goes on where it stopped when it is started again, and ends with the same weights.

exit codes:
  0    done
  1    failed
  2    bad arguments, OUT belongs to a run with other settings, or PyTorch is not installed
  130  interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    arguments = _parser().parse_args(argv)
    return run_command(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    try:
        import torch  # noqa: F401, an extra
    except ImportError as error:
        raise BadInput(f"PyTorch is not installed ({error}); pip install 'srum-jax[rewards]'.") from error
    try:
        config = SamConfig(**{name: getattr(arguments, name) for name in SAM_ARGUMENTS})
    except ValueError as error:
        raise BadInput(error) from error
    if arguments.measure is None:
        _train(arguments, config)
    else:
        _print_measured(epath.Path(arguments.measure), arguments.scenes, config)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.tiny_sam", description=__doc__, epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=user_path, metavar="DIR", help="trains; directory of the run")
    what.add_argument("--measure", type=user_path, metavar="DIR", help="measures a SAM checkpoint")
    defaults = TrainingSettings()
    parser.add_argument("--steps", type=in_range(int, 1), default=defaults.steps,
                        help="of training (default: %(default)s)")
    parser.add_argument("--seed", type=in_range(int, 0), default=defaults.seed,
                        help="of everything (default: %(default)s)")
    parser.add_argument("--pictures", type=in_range(int, 1), default=defaults.samples.pictures,
                        help="of a step (default: %(default)s)")
    parser.add_argument("--prompts", type=in_range(int, 1), default=defaults.samples.prompts,
                        help="of each picture (default: %(default)s)")
    parser.add_argument("--overlapping", type=float, default=defaults.samples.overlapping, metavar="SHARE",
                        help="of the world's own pictures that have one object in front of another "
                             "(default: %(default)s)")
    parser.add_argument("--start", type=user_path, metavar="DIR",
                        help="trains this checkpoint further instead of random weights")
    parser.add_argument("--save-seconds", type=float, default=60.0, help="between two saved states")
    group = parser.add_argument_group("measurement")
    group.add_argument("--scenes", type=in_range(int, 0), default=200,
                       help="of held-out prompts; 0 for no measurement after training (default: %(default)s)")
    for name in SAM_ARGUMENTS:
        default = POINTS_PER_SIDE if name == "points_per_side" else getattr(SamConfig(), name)
        group.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default,
                           help="of the generator (default: %(default)s)")
    return parser


def _train(arguments: argparse.Namespace, config: SamConfig) -> None:
    from experiments._tiny_sam.model import random_start, trained_start, write_checkpoint
    from experiments._tiny_sam.training import train

    defaults = TrainingSettings()
    samples = dataclasses.replace(defaults.samples, pictures=arguments.pictures, prompts=arguments.prompts,
                                  overlapping=arguments.overlapping)
    settings = dataclasses.replace(defaults, steps=arguments.steps, seed=arguments.seed, samples=samples)
    recipe: dict[str, Any] = {"made_by": "python -m experiments.tiny_sam"}
    if arguments.start is None:
        start = random_start(arguments.seed)
    else:
        source = epath.Path(arguments.start)
        Sam(source, SamConfig(), "cpu")  # says what is wrong with it
        start = trained_start(source)
        # Its logits are sharp already.
        settings = dataclasses.replace(settings, start=file_sha256(source / "model.safetensors"), sharpness=1.0)
        recipe["start"] = json.loads((source / RECIPE).read_text()) if (source / RECIPE).exists() else {}
    checkpoint = epath.Path(arguments.out) / CHECKPOINT
    model, seconds = train(arguments.out, start, settings, arguments.save_seconds)
    if not checkpoint.exists():
        recipe |= {"settings": dataclasses.asdict(settings), "training_seconds": seconds, "threads": 1,
                   "versions": _versions()}
        write_checkpoint(checkpoint, model, recipe)
        print(f"wrote {checkpoint}")
    recipe = json.loads((checkpoint / RECIPE).read_text())
    if arguments.scenes and "measured" not in recipe:
        for name, generator in (("measured", config), ("measured_tiny_world", TINY_WORLD)):
            recipe[name] = _print_measured(checkpoint, arguments.scenes, generator)
        write_json(checkpoint / RECIPE, recipe)


def _print_measured(checkpoint: epath.Path, scenes: int, config: SamConfig) -> dict[str, Any]:
    from experiments._tiny_sam.measure import measure

    measured = measure(checkpoint, scenes, config)
    print(json.dumps(measured, indent=2))
    return measured


def _versions() -> dict[str, str]:
    import numpy
    import torch
    import transformers

    modules = {module.__name__: module.__version__ for module in (numpy, torch, transformers)}
    return {"python": platform.python_version(), **modules}


if __name__ == "__main__":
    sys.exit(main())
