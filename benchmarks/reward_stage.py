"""Images per second of every stage that makes reward records, and each stage's share of the time.

  python -m benchmarks.reward_stage
  python -m benchmarks.reward_stage --images 256 --json reward_stage.json
  python -m benchmarks.reward_stage --experiment bagel_cot --checkpoint BAGEL-7B-MoT --sam-model sam-vit-huge \\
      --prompts train_comp.json --images 64

Runs `tools.make_rewards` twice in one process: first on a few images, which compiles the programs and fills the
caches, then on the number asked for. Loading of models counts, compilation hardly does. The default is the tiny world;
only shares and ratios mean something beyond the machine.
"""

import argparse
import contextlib
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence

from etils import epath

from benchmarks.doc_section import command_line, replace_section
from srum_jax.command_line import user_path
from srum_jax.errors import BadInput
from srum_jax.storage.atomic_file import write_json
from tools.make_rewards.__main__ import main as make_rewards
from tools.make_rewards.stage_recipe import STAGES, StageRecipe, add_input_arguments, read_stage_recipe, with_inputs


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    args = _parser().parse_args(argv)
    import jax  # takes seconds

    with tempfile.TemporaryDirectory() as directory:
        folder = epath.Path(directory)
        jax.config.update("jax_compilation_cache_dir", os.fspath(folder / "programs"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        try:
            _run(args, folder / "first", args.images)  # the same number: the same programs
            seconds = _run(args, folder / "measured", args.images)
        except BadInput as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        images = json.loads((folder / "measured" / "summary-segment.json").read_text())["images"]
    report = {"device": f"{jax.device_count()} x {jax.devices()[0].device_kind}", "images": images,
              "cores": len(os.sched_getaffinity(0)), "seconds": seconds}
    table = _table(report)
    print(table)
    if args.json:
        write_json(args.json, report)
    if args.docs:
        command = command_line("benchmarks.reward_stage", sys.argv[1:] if argv is None else argv)
        replace_section(args.docs, "reward stage", f"`{command}`\n\n{table}")
    return 0


def _run(args: argparse.Namespace, out: epath.Path, images: int) -> dict[str, float]:
    recipe = _recipe(args, out, images)
    seconds = {}
    for stage in STAGES:
        began = time.monotonic()
        with contextlib.redirect_stdout(io.StringIO()) as said:
            code = make_rewards([stage, *recipe.command_line(stage, os.fspath(out))])
        if code not in (0, 3):
            raise BadInput(f"{stage} ended with exit code {code}:\n{said.getvalue()}")
        seconds[stage] = time.monotonic() - began
    return seconds


def _recipe(args: argparse.Namespace, out: epath.Path, images: int) -> StageRecipe:
    recipe = read_stage_recipe(args.experiment, out).changed("generate", limit=images, num_candidates=1)
    return with_inputs(recipe, args)


def _table(report: dict) -> str:
    total = sum(report["seconds"].values())
    lines = [f"{report['images']} images, {report['device']}, {report['cores']} cores", "",
             "| stage | images a second | share of the time |", "|---|---|---|"]
    lines += [f"| {stage} | {report['images'] / seconds:.3g} | {100 * seconds / total:.1f} % |"
              for stage, seconds in report["seconds"].items()]
    return "\n".join([*lines, f"| all | {report['images'] / total:.3g} | 100 % |"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reward_stage", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="tiny_srum", metavar="NAME", help="whose stages (default: %(default)s)")
    parser.add_argument("--images", type=int, default=128, metavar="N", help="one per prompt (default: %(default)s)")
    add_input_arguments(parser)
    parser.add_argument("--json", type=user_path, metavar="FILE", help="write the figures here")
    parser.add_argument("--docs", type=user_path, metavar="FILE", help="replace the table in this page")
    return parser


if __name__ == "__main__":
    sys.exit(main())
