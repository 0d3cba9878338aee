"""A program of generation for a slice that is only described: what is asked, and what is found out."""

import dataclasses
from typing import ClassVar

from srum_jax.aot.compiling import CompileResult
from srum_jax.families.costs import Drawing
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

    kind: ClassVar = "generation"
    result: ClassVar = DrawingResult

    topology: str
    mesh: MeshConfig
    family: str
    program: str  # of the family's costs
    drawing: Drawing
    checkpoint: str = ""  # whose JSON files say the sizes; "": the published model
    layers: int | None = None  # instead of the checkpoint's
    dtype: str = "bfloat16"
    attention: str = "splash"
    understanding: bool = True  # whether the vision tower is in memory too
    hlo_file: str | None = None  # where the compiled program's text goes
