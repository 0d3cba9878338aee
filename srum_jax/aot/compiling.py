"""Having programs compiled in processes of their own, one after the other."""

import dataclasses
import json
import math
import subprocess
import sys
from typing import Any, ClassVar, Protocol

from srum_jax.aot.topology import GIB, Topology
from srum_jax.errors import BadInput, Failure
from srum_jax.families.costs import Costs
from srum_jax.families.family import Family
from srum_jax.overrides import to_json


@dataclasses.dataclass(frozen=True)
class CompileResult:
    """What the compiler says of a program. Bytes are those of one chip."""

    state_bytes: int  # all weights, read by this program or not
    compile_seconds: float
    argument_bytes: int = 0  # weights that it reads, and its inputs
    output_bytes: int = 0
    alias_bytes: int = 0  # outputs that lie where donated inputs lay
    temporary_bytes: int = 0
    peak_bytes: int = 0  # at once, arguments included
    code_bytes: int = 0
    elsewhere_bytes: int = 0  # weights and inputs that it does not read
    xla_flops: float = 0.0  # by the compiler: a loop's body once, Pallas kernels as nothing
    refusal: str | None = None  # the compiler's words, if the program needs more memory than there is
    from_cache: bool = False

    @property
    def needed_bytes(self) -> int:
        """Memory of one chip while the program runs."""
        return self.peak_bytes + self.elsewhere_bytes + self.code_bytes

    def fits(self, limit_bytes: int) -> bool:
        """Whether a chip has enough memory."""
        return self.refusal is None and self.needed_bytes <= limit_bytes

    def gib_per_chip(self, limit_bytes: int) -> dict[str, float | None]:
        """What takes memory, by name, beside the limit; None where the program was refused."""
        return {"limit": limit_bytes / GIB} | {name: None if self.refusal else size / GIB for name, size in (
            ("needed", self.needed_bytes), ("arguments", self.argument_bytes),
            ("outputs", self.output_bytes - self.alias_bytes), ("temporaries", self.temporary_bytes),
            ("peak", self.peak_bytes), ("program", self.code_bytes), ("not_read", self.elsewhere_bytes))}


class Request(Protocol):
    """A frozen dataclass of plain values: the other process finds by them what the command found.

    Attributes:
      kind: by which the worker knows it.
      result: a dataclass with the field `memory`, a `CompileResult`, and others that are plain.
      topology: for messages.
    """

    kind: ClassVar[str]
    result: ClassVar[type]
    topology: str


def compile_apart(request: Request, cache: str | None, *, nice: int = 0) -> Any:
    """Compiles in another process.

    Args:
      request: what to compile.
      cache: directory of earlier results; None for none.
      nice: by how much the process gives way to others.

    Raises:
      BadInput: the answer is that the request cannot be met.
      Failure: the process ended without an answer.
    """
    asked = json.dumps({"kind": request.kind, "request": to_json(request), "cache": cache})
    command = [*(["nice", "-n", str(nice)] if nice else []), sys.executable, "-m", "srum_jax.aot.worker", asked]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise Failure(f"{request.kind} for {request.topology}: the compiling process ended with code "
                           f"{done.returncode}. Its last words:\n{done.stderr[-2000:]}") from error
    if "bad_request" in answer:
        raise BadInput(answer["bad_request"])
    return request.result(**answer | {"memory": CompileResult(**answer["memory"])})


def costs_of(family: Family) -> Costs:
    """What a family says of its work.

    Raises:
      BadInput: nothing.
    """
    if family.costs is None:
        raise BadInput(f"{family.architecture.name}: nobody has counted yet what this family's work costs.")
    return family.costs


class Compiling:
    """Has one request after the other compiled, each once, and says so on standard error."""

    def __init__(self, topology: Topology, cache: str, nice: int):
        """As the command line has it: `cache` is a directory, or "none"."""
        self._topology, self._cache, self._nice = topology, None if cache == "none" else cache, nice
        self._found: dict[Any, Any] = {}

    def __call__(self, request: Request, title: str) -> Any:
        """The result of a request, whose title is printed."""
        if request not in self._found:
            print(f"{title} ...", end=" ", file=sys.stderr, flush=True)
            self._found[request] = compile_apart(request, self._cache, nice=self._nice)
            print(self._outcome(self._found[request].memory), file=sys.stderr, flush=True)
        return self._found[request]

    def needed_bytes(self, request: Request, title: str) -> float:
        """Memory of one chip; infinite where the compiler refused."""
        memory = self(request, title).memory
        return math.inf if memory.refusal else memory.needed_bytes

    def _outcome(self, memory: CompileResult) -> str:
        needed = "more than there is" if memory.refusal else f"{memory.needed_bytes / GIB:.2f} GiB per chip"
        verdict = "" if memory.fits(self._topology.chip.hbm_bytes) else ", does not fit"
        origin = "as before" if memory.from_cache else f"compiled in {memory.compile_seconds:.0f} s"
        return f"{needed}{verdict} ({origin})"
