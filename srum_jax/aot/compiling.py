"""Having programs compiled in processes of their own, one after the other."""

import dataclasses
import logging
import math
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from srum_jax.aot.cache import CompileCache
from srum_jax.aot.topology import GIB, Topology
from srum_jax.errors import BadInput, Failure
from srum_jax.families.costs import Costs
from srum_jax.families.family import Family

_ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}


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


# Of a request, the result, with its `memory`; a function of a module, which the other process imports.
Compile = Callable[[Any, CompileCache], Any]


def compile_apart(compile_: Compile, request: Any, cache: str | None, *, nice: int = 0) -> Any:
    """Compiles in a process of its own.

    The TPU compiler reads its environment when it is loaded, and takes down the process when it fails badly; neither
    should happen to the command that the user gave.

    Args:
      compile_: what the process does.
      request: what to compile, with its `topology`.
      cache: directory of earlier results; None for none.
      nice: by how much the process gives way to others.

    Raises:
      BadInput: the answer is that the request cannot be met.
      Failure: the process ended without an answer.
    """
    os.environ.update(_ENVIRONMENT)  # of the process to come; this one's JAX has read its own
    spawn = multiprocessing.get_context("spawn")
    receiver, sender = spawn.Pipe(duplex=False)
    with tempfile.NamedTemporaryFile("w+", errors="replace") as said:
        child = spawn.Process(target=_answer, args=(sender, said.name, nice, compile_, request, cache), daemon=True)
        child.start()
        sender.close()
        try:
            answer = receiver.recv()
        except EOFError as error:
            child.join()
            raise Failure(f"{request.topology}: the compiling process ended with code {child.exitcode}. Its last "
                          f"words:\n{said.read()[-2000:]}") from error
        finally:
            child.kill()  # also when the user interrupts
    if isinstance(answer, BadInput):
        raise answer
    return answer


def _answer(sender: Any, said: str, nice: int, compile_: Compile, request: Any, cache: str | None) -> None:
    os.nice(nice)
    os.dup2(os.open(said, os.O_WRONLY), 2)
    logging.disable(logging.WARNING)
    try:
        sender.send(compile_(request, CompileCache(cache)))
    except BadInput as error:
        sender.send(error)


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

    def __init__(self, compile_: Compile, topology: Topology, cache: str, nice: int):
        """As the command line has it: `cache` is a directory, or "none"."""
        self._compile, self._topology = compile_, topology
        self._cache, self._nice = None if cache == "none" else cache, nice
        self._found: dict[Any, Any] = {}

    def __call__(self, request: Any, title: str) -> Any:
        """The result of a request, whose title is printed."""
        if request not in self._found:
            print(f"{title} ...", end=" ", file=sys.stderr, flush=True)
            self._found[request] = compile_apart(self._compile, request, self._cache, nice=self._nice)
            print(self._outcome(self._found[request].memory), file=sys.stderr, flush=True)
        return self._found[request]

    def needed_bytes(self, request: Any, title: str) -> float:
        """Memory of one chip; infinite where the compiler refused."""
        memory = self(request, title).memory
        return math.inf if memory.refusal else memory.needed_bytes

    def _outcome(self, memory: CompileResult) -> str:
        needed = "more than there is" if memory.refusal else f"{memory.needed_bytes / GIB:.2f} GiB per chip"
        verdict = "" if memory.fits(self._topology.chip.hbm_bytes) else ", does not fit"
        origin = "as before" if memory.from_cache else f"compiled in {memory.compile_seconds:.0f} s"
        return f"{needed}{verdict} ({origin})"
