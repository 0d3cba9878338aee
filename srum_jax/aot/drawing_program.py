"""A program of generation for a slice that is only described: what is asked, compiling it, and what is found out."""

import collections
import dataclasses

from jax.sharding import Mesh

from srum_jax.aot.cache import CompileCache
from srum_jax.aot.compiled import bytes_per_device, compile_lowered, described_devices
from srum_jax.aot.compiling import CompileResult
from srum_jax.aot.hlo_collectives import MeshOfChips, collectives
from srum_jax.aot.hlo_program import Program, host_calls
from srum_jax.errors import BadInput
from srum_jax.families.costs import Drawing
from srum_jax.families.registry import family
from srum_jax.mesh import build_mesh
from srum_jax.mesh_config import MeshConfig


@dataclasses.dataclass(frozen=True)
class DrawingResult:
    """What the compiler says of a program, and what its text says."""

    memory: CompileResult
    collectives: dict[str, int] = dataclasses.field(default_factory=dict)  # instructions by kind
    largest_gather_bytes: int = 0
    host_calls: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class DrawingRequest:
    """One program for one slice."""

    topology: str
    mesh: MeshConfig
    family: str
    program: str  # of the family's costs
    drawing: Drawing
    checkpoint: str = ""  # whose JSON files say the sizes; "": the published model
    layers: int | None = None  # instead of the checkpoint's
    dtype: str = "bfloat16"
    attention: str = "splash"
    quantize: str | None = None  # integers that matrices of layers are kept in
    hlo_file: str | None = None  # where the compiled program's text goes


def chosen(names: str | None, known: tuple[str, ...]) -> tuple[str, ...]:
    """The programs that `--programs` names, separated by commas; all of them for None.

    Raises:
      BadInput: one is not known, or named twice.
    """
    if names is None:
        return known
    found = tuple(names.split(","))
    if len(set(found)) != len(found) or not set(found) <= set(known):
        raise BadInput(f"--programs: expected some of {', '.join(known)}, found {names!r}.")
    return found


def compile_program(request: DrawingRequest, cache: CompileCache) -> DrawingResult:
    """Compiles, or finds the same program in the cache.

    Raises:
      BadInput: the mesh fits neither the slice nor the model; or there is no such slice.
    """
    costs = family(request.family).costs
    mesh = build_mesh(request.mesh, described_devices(request.topology))
    program = costs.lower(costs.config(request.checkpoint, request.layers), mesh, request.drawing, request.program,
                          dtype=request.dtype, attention=request.attention, quantize=request.quantize)
    memory, text = compile_lowered(program.lowered, (program.state, program.arguments), cache, request.topology, {})
    memory = dataclasses.replace(memory, state_bytes=bytes_per_device(program.state))
    if request.hlo_file:
        with open(request.hlo_file, "w") as file:
            file.write(text)
    return DrawingResult(memory) if memory.refusal else _read(memory, Program(text), mesh)


def _read(memory: CompileResult, program: Program, mesh: Mesh) -> DrawingResult:
    exchanges = collectives(program, MeshOfChips(dict(mesh.shape)))
    kinds = collections.Counter(found.kind for found in exchanges)
    gathers = (found.num_bytes for found in exchanges if found.kind == "all-gather")
    return DrawingResult(memory, dict(sorted(kinds.items())), max(gathers, default=0), host_calls(program))
