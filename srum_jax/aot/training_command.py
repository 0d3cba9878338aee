"""`python -m srum_jax.compile --experiment=...`: from the command line's arguments to a report."""

import argparse
import re
from typing import Any

from srum_jax.aot.compiling import Compiling
from srum_jax.aot.drawing_program import compile_program
from srum_jax.aot.largest_batch import largest_batch
from srum_jax.aot.roofline import DRAWING_ASSUMPTIONS, STEP_ASSUMPTIONS
from srum_jax.aot.round import as_text as round_text
from srum_jax.aot.round import check_round, round_entry
from srum_jax.aot.topology import parse_topology
from srum_jax.aot.train_step import compile_step
from srum_jax.aot.training import PROMPT_TOKENS, TrainPlan, TrainRequest, plan
from srum_jax.aot.training_report import as_text, training_entry
from srum_jax.errors import BadInput

_PROGRAM = "step"
_MOST_STEPS = 64  # of the smallest batch; --largest tries no larger ones


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Compiles an experiment's train step; see `--help` for the arguments.

    Raises:
      BadInput, ValueError, OSError: arguments, settings or files that cannot be used.
      Failure: the compiler failed.
    """
    topology, asked = parse_topology(args.topology), plan(_request(args))
    compiling = Compiling(compile_step, topology, args.cache, args.nice)
    if args.round:
        programs = check_round(asked, args.programs)
        step = compiling(asked.request, _title(asked))
        entry = training_entry(asked, topology, step)
        drawing = Compiling(compile_program, topology, args.cache, args.nice)
        seconds = entry["estimate"]["exposed_seconds"] if "estimate" in entry else None
        found = round_entry(asked, topology, step, seconds, drawing, programs, largest=args.largest,
                            most=args.most)
        return entry | {"round": found, "fits": entry["fits"] and found["fits"]}
    if not args.largest:
        return training_entry(asked, topology, compiling(asked.request, _title(asked)))

    def needed(_: str, rows: int) -> float:
        tried = asked.with_rows(rows)
        return compiling.needed_bytes(tried.request, _title(tried))

    step = asked.step
    rows, limited_by = largest_batch([_PROGRAM], needed, topology.chip.hbm_bytes, step,
                                     max(args.most or _MOST_STEPS * step, step), args.start)
    shown = asked.with_rows(rows or step)  # if nothing fits, the report says by how much
    entry = training_entry(shown, topology, compiling(shown.request, _title(shown)))
    return entry | {"largest": {"rows": rows, "step": step, "limited_by_memory": limited_by is not None}}


def text_of(report: dict[str, Any]) -> str:
    """What the command prints."""
    rollouts = f"\n\n{round_text(report['round'])}\n\n{DRAWING_ASSUMPTIONS}" if "round" in report else ""
    return f"{as_text(report)}\n\n{STEP_ASSUMPTIONS}{rollouts}"


def _request(args: argparse.Namespace) -> TrainRequest:
    if args.slices < 1:
        raise BadInput(f"--slices: expected a positive number, found {args.slices}.")
    if options := [option for option in args.compiler_option if not re.fullmatch(r"[a-z]\w*=.*", option)]:
        raise BadInput(f"--compiler-option: expected NAME=VALUE, found {options[0]!r}.")
    return TrainRequest(
        topology=parse_topology(args.topology).name, experiment=args.experiment, settings=tuple(args.set),
        mesh=args.mesh, rows=args.batch, num_slices=args.slices,
        checkpoint=args.checkpoint or "", layers=args.layers,
        prompt_tokens=PROMPT_TOKENS if args.prompt_tokens is None else args.prompt_tokens,
        compiler_options=tuple(args.compiler_option), hlo_file=args.hlo,
    )


def _title(asked: TrainPlan) -> str:
    slices = "" if asked.request.num_slices == 1 else f"{asked.request.num_slices} x "
    return f"{slices}{asked.request.topology} {asked.experiment.name} {asked.rows:5} rows"
