"""`python -m srum_jax.compile --generation`: from the command line's arguments to a report."""

import argparse
import dataclasses
from typing import Any

from srum_jax.aot.compiling import Compiling, costs_of
from srum_jax.aot.drawing_program import DrawingRequest, chosen, compile_program
from srum_jax.aot.generation_report import as_text, program_entry, whole_entry
from srum_jax.aot.largest_batch import largest_batch
from srum_jax.aot.roofline import DRAWING_ASSUMPTIONS
from srum_jax.aot.topology import parse_topology
from srum_jax.errors import BadInput
from srum_jax.families.costs import Drawing
from srum_jax.families.registry import NAMES, family, recognise
from srum_jax.mesh_config import MeshConfig
from srum_jax.models.compute import MESH_AXES

_PROMPT_TOKENS = 254
_MOST_IMAGES = 1024


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Compiles the programs of generation; see `--help` for the arguments.

    Raises:
      BadInput, ValueError: arguments that cannot be used.
      Failure: the compiler failed.
    """
    name = args.family or (recognise(args.checkpoint) if args.checkpoint else NAMES[0])
    costs = costs_of(family(name))
    programs = chosen(args.programs, tuple(costs.drawn_by))
    topology, mesh = parse_topology(args.topology), args.mesh or MeshConfig(data=1, fsdp=-1)
    if mesh.seq != 1:
        raise BadInput(f"--mesh: generation does not split the tokens of a row: expected seq=1, found {mesh.seq}.")
    config = costs.config(args.checkpoint or "", args.layers)
    axes = dict(zip(MESH_AXES, mesh.shape(topology.num_chips), strict=True))
    step = axes["data"] * axes["fsdp"]
    drawing = Drawing(
        rows=args.batch or step, prompt_tokens=args.prompt_tokens or _PROMPT_TOKENS,
        height=args.height or costs.side(config), width=args.width or costs.side(config),
        num_timesteps=args.num_timesteps, max_tokens=args.max_tokens, editing=args.editing,
    )
    costs.check(config, drawing)
    if drawing.rows % step:
        raise BadInput(f"--batch: expected a multiple of {step} (data x fsdp of the mesh), found {drawing.rows}.")
    asked = DrawingRequest(topology.name, mesh, name, "", drawing, args.checkpoint or "", args.layers, args.dtype,
                           quantize=args.quantize)
    compiling = Compiling(compile_program, topology, args.cache, args.nice)

    def of(program: str, rows: int) -> tuple[DrawingRequest, str]:
        """A request and its title."""
        changed = dataclasses.replace(asked.drawing, rows=rows)
        return (dataclasses.replace(asked, program=program, drawing=changed),
                f"{topology.name} {program:8} {rows:5} rows")

    rows, limited_by = drawing.rows, None
    if args.largest:
        found, limited_by = largest_batch(
            [program for program in costs.search_order if program in programs],
            lambda program, rows: compiling.needed_bytes(*of(program, rows)), topology.chip.hbm_bytes, step,
            args.most or _MOST_IMAGES, args.start,
        )
        rows = found or step  # if nothing fits, the report says by how much
    requests = [of(program, rows) for program in programs]
    entries = [program_entry(request, topology, axes, compiling(request, title)) for request, title in requests]
    return whole_entry(requests[0][0], topology, axes, entries) | {"largest_limited_by": limited_by}


def text_of(report: dict[str, Any]) -> str:
    """What the command prints."""
    limit = report.get("largest_limited_by")
    largest = [f"The largest batch; {limit} sets the limit."] if limit else []
    return "\n".join([as_text(report), *largest, DRAWING_ASSUMPTIONS])
