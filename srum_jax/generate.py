"""Generates images for a list of prompts: one per prompt and candidate.

Resumable; --process-index and --num-processes, or --distributed, share the work.
"""

import argparse
import collections
import sys
from collections.abc import Sequence
from typing import Any

from etils import epath

from srum_jax.command_line import set_up_streams
from srum_jax.errors import BadInput, Incomplete
from srum_jax.families.registry import family_of, recognise, samplers
from srum_jax.generation.arguments import add_generation_arguments, settings_of
from srum_jax.generation.drawing import draw_missing, num_images, progress
from srum_jax.generation.image_store import FORMATS
from srum_jax.generation.keyword_file import with_keywords
from srum_jax.generation.prompt_file import (
    DUPLICATE_PROMPT,
    PromptList,
    prompts_of_texts,
    read_prompt_file,
)
from srum_jax.generation.prompt_formats import find_format
from srum_jax.generation.prompts import IdError, record_id
from srum_jax.generation.row_checks import check_rows, raise_bad_rows
from srum_jax.generation.run_file import Run, compare_run
from srum_jax.generation.run_settings import GenerationSettings
from srum_jax.generation.work_units import WorkPlan, plan_work
from srum_jax.inference.protocols import Checker
from srum_jax.inference.templates import Templates
from srum_jax.model_arguments import add_model_arguments, checker_of, device_failures, load_pipeline
from srum_jax.stages import GENERATE
from srum_jax.stages.folder import StageFolder
from srum_jax.stages.interruption import run_command
from srum_jax.stages.processes import Processes, find_processes
from srum_jax.weights.fingerprint import checkpoint_fingerprint, encoder_fingerprint

SUMMARY = "draw candidate images for a list of prompts"
_EPILOG = """
examples:
  python -m srum_jax.generate --checkpoint BAGEL-7B-MoT --prompt "a red kettle in soft light" --out pictures
  python -m srum_jax.generate --checkpoint BAGEL-7B-MoT --prompts train_comp.json --prompt-format t2i_compbench \\
      --think --out runs/comp --batch-size 16
  python -m srum_jax.generate ... --process-index 2 --num-processes 8     # one of eight, on any machine

Give the same command again to go on with a run that ended early; --mesh and the processes may then be others.

exit codes:
  0    all images of this process are there
  1    failed; what was committed is intact, and the same command goes on
  2    the arguments, prompts, settings or checkpoint cannot be used
  3    as 0, but more rows could not be used (--on-error skip) than --max-reject-rate allows
  130  interrupted; the same command goes on
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m srum_jax.generate", description=__doc__, epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    args = parser.parse_args(argv)
    return run_command(lambda: run(args))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add_model_arguments(parser)
    add_generation_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Generates the share of one process; see `--help` for the arguments. Returns the exit code."""
    set_up_streams()
    with device_failures("If memory ran out, use a smaller --batch-size (with a new --out), or more shards of the "
                         "weights (--mesh)."):
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    settings = settings_of(args, samplers()[recognise(args.checkpoint)])
    family = family_of(args.checkpoint)
    if settings.think and not family.plans:
        raise BadInput(f"--think: expected a model that plans before it draws, found {family.architecture.name} in "
                       f"{args.checkpoint}; leave it out.")
    processes = find_processes(args.process_index, args.num_processes, args.distributed)
    templates = Templates.read(args.templates)
    checker = checker_of(args, templates)
    prompts, source_folder = _checked_prompts(args, settings, checker)
    plan = plan_work(prompts.rows, settings)
    folder = StageFolder(args.out, GENERATE, settings.output.num_shards, processes)
    architecture = family.architecture
    this_run = Run(
        settings, prompts.rows, checkpoint_fingerprint(args.checkpoint, architecture),
        {"think_generation": templates.checksums()["think_generation"]} if settings.think else {},
        encoder_fingerprint(args.checkpoint, architecture),
    )
    if args.dry_run:
        compare_run(this_run, folder)
        _print_table(_counts(prompts, plan) + _forecast(checker.default_size, plan, settings, folder, processes))
        _check_reject_rate(prompts, args.max_reject_rate)
        return 0
    drawn = draw_missing(
        this_run, plan, folder,
        lambda edits: load_pipeline(args, templates, understanding=edits, sampler=settings.sampler),
        bad=prompts.bad, source_folder=source_folder, repair=args.repair,
    )
    _print_table([
        *_counts(prompts, plan),
        ("written now", f"{drawn.written}" + (f" ({drawn.written / drawn.seconds:.3g} a second)" if drawn.written
                                              else "")),
        ("already there", drawn.share - drawn.written),
        *([("of other processes", plan.num_images - drawn.share)] if processes.count > 1 else []),
        *(drawn.summary["think"].items() if drawn.summary else ()),
        ("folder", f"{args.out}: " + ("complete" if drawn.summary else "images of other processes are missing")),
    ])
    _check_reject_rate(prompts, args.max_reject_rate)
    return 0


def _check_reject_rate(prompts: PromptList, limit: float) -> None:
    """Raises Incomplete if too many rows could not be used. Those that --dedupe left out could have been."""
    total = len(prompts.rows) + len(prompts.bad)
    unusable = sum(row.reason != DUPLICATE_PROMPT for row in prompts.bad)
    if unusable > limit * total:
        raise Incomplete(f"{unusable} of {total} rows could not be used, more than --max-reject-rate {limit} allows; "
                         "OUT/rejects has the reasons")


def _checked_prompts(
    args: argparse.Namespace, settings: GenerationSettings, checker: Checker
) -> tuple[PromptList, epath.Path]:
    """The prompts, and the folder that their pictures are relative to."""
    file = epath.Path(args.prompts) if args.prompts is not None else None
    set_name = args.set_name or ("prompt" if file is None else file.stem)
    try:
        record_id(set_name, "0", settings.num_candidates - 1)
    except IdError as error:
        raise BadInput(f"--set-name: {error}; name the list yourself.") from error
    if file is None:
        prompts = prompts_of_texts(args.prompt, set_name, settings.num_candidates)
    else:
        form = find_format(args.prompt_format, args.fields)
        prompts = read_prompt_file(file, form, set_name, settings.num_candidates)
    folder = epath.Path(".") if file is None else file.parent
    if args.keywords is not None:  # may name rows that --limit leaves out
        prompts = with_keywords(prompts, args.keywords)
    prompts = prompts.limited(args.limit)
    with progress(len(prompts.rows), "rows checked") as bar:
        prompts = check_rows(prompts, checker, folder=folder, height=settings.height, width=settings.width,
                             on_checked=bar.update)
    if args.on_error == "stop":
        raise_bad_rows(prompts)
    if args.dedupe:
        prompts = prompts.deduplicated()
    return prompts, folder


def _forecast(
    default_size: tuple[int, int], plan: WorkPlan, settings: GenerationSettings, folder: StageFolder,
    processes: Processes,
) -> list[tuple[str, Any]]:
    """What a run would do."""
    height, width = settings.height or default_size[0], settings.width or default_size[1]
    committed = folder.committed()
    done = [unit for unit in plan.units if folder.chunk(unit) in committed]
    pixels = sum((job.prompt.height or height) * (job.prompt.width or width)
                 for unit in plan.units for job in unit.jobs)
    size = pixels * FORMATS[settings.output.image_format].bytes_per_pixel
    lines = [("units", len(plan.units)), ("already there", num_images(done)), ("disk", f"about {size / 1e6:,.3g} MB")]
    for process in range(processes.count):
        share = Processes(process, processes.count).share(plan.units)
        lines.append((f"process {process}", f"{len(share)} units, {num_images(share)} images"))
    return lines


def _counts(prompts: PromptList, plan: WorkPlan) -> list[tuple[str, Any]]:
    reasons = collections.Counter(row.reason for row in prompts.bad)
    return [
        ("prompts", len(prompts.rows) + len(prompts.bad)),
        *((f"left out, {reason}", count) for reason, count in sorted(reasons.items())),
        ("candidates", plan.num_images),
    ]


def _print_table(lines: Sequence[tuple[str, Any]]) -> None:
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        print(f"{name.replace('_', ' '):{width}}  {value}")


if __name__ == "__main__":
    sys.exit(main())
