"""`python -m srum_jax.compile --experiment=...`: from the command line's arguments to a report."""

import argparse
import dataclasses
import re
import sys
from typing import Any

from etils import epath

from srum_jax.aot.largest_batch import largest_batch
from srum_jax.aot.step_roofline import ASSUMPTIONS
from srum_jax.aot.topology import GIB, Topology, TopologyError, parse_mesh, parse_topology
from srum_jax.aot.training import TrainRequest, TrainResult, compile_training, complete, mesh_sizes, needed_bytes
from srum_jax.aot.training_report import as_text, training_entry
from srum_jax.experiment import load_recipe
from srum_jax.families.bagel.step_costs import PROMPT_TOKENS
from srum_jax.models.bagel.config import RELEASED, BagelConfig
from srum_jax.overrides import apply_overrides
from srum_jax.training.experiment import Experiment

_PROGRAM = "step"
_MOST_STEPS = 64  # of the smallest batch; --largest tries no larger ones


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Compiles an experiment's train step; see `--help` for the arguments.

    Raises:
      ValueError, OSError: arguments, settings or files that cannot be used.
      CompileError: the compiler failed.
    """
    topology = parse_topology(args.topology)
    request, mesh = _request(args, topology)
    compiling = _Compiler(topology, request, mesh, args)
    if not args.largest:
        return training_entry(request, topology, mesh, compiling(request.rows))
    step = mesh["data"] * mesh["fsdp"] * request.experiment.training.accumulation_steps
    rows, limited_by = largest_batch([_PROGRAM], lambda _, rows: needed_bytes(compiling(rows)), topology.chip.hbm_bytes,
                                     step, max(args.most or _MOST_STEPS * step, step), args.start)
    shown = rows or step  # if nothing fits, the report says by how much
    entry = training_entry(compiling.with_rows(shown), topology, mesh, compiling(shown))
    return entry | {"largest": {"rows": rows, "step": step, "limited_by_memory": limited_by is not None}}


def text_of(report: dict[str, Any]) -> str:
    """What the command prints."""
    return f"{as_text(report)}\n\n{ASSUMPTIONS}"


def _request(args: argparse.Namespace, topology: Topology) -> tuple[TrainRequest, dict[str, int]]:
    if args.slices < 1:
        raise TopologyError(f"--slices: expected a positive number, found {args.slices}.")
    options = [option for option in args.compiler_option if not re.fullmatch(r"[a-z]\w*=.*", option)]
    if options:
        raise ValueError(f"--compiler-option: expected NAME=VALUE, found {options[0]!r}.")
    experiment: Experiment = apply_overrides(load_recipe(args.experiment).experiment, args.set)
    if args.mesh:
        parsed = dataclasses.replace(parse_mesh(args.mesh), check_layout=experiment.mesh.check_layout)
        experiment = dataclasses.replace(experiment, mesh=parsed)
    mesh = mesh_sizes(experiment, topology, args.slices)
    experiment = complete(experiment, mesh, args.batch)
    config = _config(args.checkpoint or experiment.model.checkpoint, args.layers)
    experiment.data.row_capacity(config)  # sizes that do not go with the model
    return TrainRequest(
        topology.name, experiment, config, args.slices,
        PROMPT_TOKENS if args.prompt_tokens is None else args.prompt_tokens, tuple(args.compiler_option), args.hlo,
    ), mesh


def _config(checkpoint: str | None, layers: int | None) -> BagelConfig:
    config = BagelConfig.from_directory(checkpoint) if checkpoint else RELEASED
    if layers is not None:
        config = dataclasses.replace(config, llm=dataclasses.replace(config.llm, num_layers=layers))
    return config


class _Compiler:
    """Compiles the step with one batch after the other, each once, and says so."""

    def __init__(self, topology: Topology, request: TrainRequest, mesh: dict[str, int], args: argparse.Namespace):
        self._topology, self._request, self._mesh = topology, request, mesh
        self._cache = None if args.cache == "none" else epath.Path(args.cache)
        self._nice = args.nice
        self._found: dict[int, TrainResult] = {}

    def with_rows(self, rows: int) -> TrainRequest:
        """The request for another batch."""
        return dataclasses.replace(self._request, experiment=complete(self._request.experiment, self._mesh, rows))

    def __call__(self, rows: int) -> TrainResult:
        if rows not in self._found:
            slices = "" if self._request.num_slices == 1 else f"{self._request.num_slices} x "
            print(f"{slices}{self._topology.name} {self._request.experiment.name} {rows:5} rows ...", end=" ",
                  file=sys.stderr, flush=True)
            self._found[rows] = compile_training(self.with_rows(rows), self._cache, nice=self._nice)
            print(_outcome(self._found[rows], self._topology), file=sys.stderr, flush=True)
        return self._found[rows]


def _outcome(result: TrainResult, topology: Topology) -> str:
    memory = result.memory
    needed = "more than there is" if memory.refusal else f"{memory.needed_bytes / GIB:.2f} GiB per chip"
    verdict = "" if memory.fits(topology.chip.hbm_bytes) else ", does not fit"
    origin = "as before" if memory.from_cache else f"compiled in {memory.compile_seconds:.0f} s"
    return f"{needed}{verdict} ({origin})"
