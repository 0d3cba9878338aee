"""`python -m srum_jax.compile --generation`: from the command line's arguments to a report."""

import argparse
import dataclasses
import math
import sys
from typing import Any

from etils import epath

from srum_jax.aot.compiling import CompileRequest, CompileResult, compile_program
from srum_jax.aot.generation_report import as_text, program_entry, whole_entry
from srum_jax.aot.largest_batch import largest_batch
from srum_jax.aot.roofline import ASSUMPTIONS
from srum_jax.aot.topology import GIB, Topology, TopologyError, parse_mesh, parse_topology
from srum_jax.families.bagel.generation_programs import PROGRAM_NAMES, GenerationShape
from srum_jax.inference.settings import EDITING, TEXT_TO_IMAGE, FlowSampler, TextSampler
from srum_jax.mesh_config import MeshError
from srum_jax.models.bagel.config import RELEASED, BagelConfig
from srum_jax.models.compute import MESH_AXES

# Those that need most memory first.
_SEARCH_ORDER = ("denoise", "decode", "prefill", "pixels")
_PROMPT_TOKENS = 254
_MOST_IMAGES = 1024


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Compiles the programs of generation; see `--help` for the arguments.

    Raises:
      BadInput, ValueError: arguments that cannot be used.
      CompileError: the compiler failed.
    """
    names = _programs(args.programs)
    topology, mesh = parse_topology(args.topology), parse_mesh(args.mesh or "fsdp=-1")
    if mesh.seq != 1:
        raise TopologyError(f"--mesh: generation does not split the tokens of a row: expected seq=1, found {mesh.seq}.")
    config = _config(args)
    axes = dict(zip(MESH_AXES, mesh.shape(topology.num_chips), strict=True))
    step = axes["data"] * axes["fsdp"]
    shape = GenerationShape(
        rows=args.batch or step, prompt_tokens=args.prompt_tokens or _PROMPT_TOKENS, height=args.height,
        width=args.width, sampler=_sampler(args), text=TextSampler(args.max_tokens),
    )
    shape.check(config)
    if shape.rows % step:
        raise MeshError(f"--batch: expected a multiple of {step} (data x fsdp of the mesh), found {shape.rows}.")
    asking = _Compiler(topology, CompileRequest(topology.name, mesh, config, "", shape, args.dtype,
                                                understanding=not args.without_understanding), args)
    limited_by = None
    if args.largest:
        rows, limited_by = largest_batch(
            [name for name in _SEARCH_ORDER if name in names], asking.needed_bytes,
            topology.chip.hbm_bytes, step, args.most or _MOST_IMAGES, args.start,
        )
        shape = dataclasses.replace(shape, rows=rows or step)  # if nothing fits, the report says by how much
    entries = []
    for name in names:
        request, result = asking(name, shape.rows)
        entries.append(program_entry(request, topology, axes, result))
    report = whole_entry(dataclasses.replace(asking.request, shape=shape), topology, axes, entries)
    return report | {"largest_limited_by": limited_by}


class _Compiler:
    """Compiles one program after the other, and says so."""

    def __init__(self, topology: Topology, request: CompileRequest, args: argparse.Namespace):
        self.topology, self.request = topology, request
        self._cache = None if args.cache == "none" else epath.Path(args.cache)
        self._nice = args.nice

    def __call__(self, program: str, rows: int) -> tuple[CompileRequest, CompileResult]:
        request = dataclasses.replace(self.request, program=program,
                                      shape=dataclasses.replace(self.request.shape, rows=rows))
        print(f"{self.topology.name} {program:8} {rows:5} rows ...", end=" ", file=sys.stderr, flush=True)
        result = compile_program(request, self._cache, nice=self._nice)
        needed = "more than there is" if result.refusal else f"{result.needed_bytes / GIB:.2f} GiB per chip"
        origin = "as before" if result.from_cache else f"compiled in {result.compile_seconds:.0f} s"
        verdict = "" if result.fits(self.topology.chip.hbm_bytes) else ", does not fit"
        print(f"{needed}{verdict} ({origin})", file=sys.stderr, flush=True)
        return request, result

    def needed_bytes(self, program: str, rows: int) -> float:
        result = self(program, rows)[1]
        return math.inf if result.refusal else result.needed_bytes


def _config(args: argparse.Namespace) -> BagelConfig:
    config = BagelConfig.from_directory(args.checkpoint) if args.checkpoint else RELEASED
    if args.layers is not None:
        config = dataclasses.replace(config, llm=dataclasses.replace(config.llm, num_layers=args.layers))
    return config


def _sampler(args: argparse.Namespace) -> FlowSampler:
    published = EDITING if args.editing else TEXT_TO_IMAGE
    return dataclasses.replace(published, num_timesteps=args.num_timesteps)


def text_of(report: dict[str, Any]) -> str:
    """What the command prints."""
    limit = report.get("largest_limited_by")
    largest = [f"The largest batch; {limit} sets the limit."] if limit else []
    return "\n".join([as_text(report), *largest, ASSUMPTIONS])


def _programs(text: str | None) -> tuple[str, ...]:
    if text is None:
        return PROGRAM_NAMES
    names = tuple(text.split(","))
    if len(set(names)) != len(names) or not set(names) <= set(PROGRAM_NAMES):
        raise TopologyError(f"--programs: expected some of {', '.join(PROGRAM_NAMES)}, found {text!r}.")
    return names
