"""What the text of a compiled program says about traffic between devices, copies, and calls to the host."""

import dataclasses
import math
import re
from collections.abc import Iterator

_BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4,
          "s64": 8, "u64": 8, "f64": 8}
_KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")
# "  %name = bf16[4,8]{1,0} all-gather(...": the name, the type (perhaps a tuple), the operation.
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?\S+ = (.*?) ([a-z][a-z0-9-]*)\(")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
_HOST = ("callback", "infeed", "outfeed", "SendToHost", "RecvFromHost", "host_transfer")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction of a compiled program."""

    operation: str  # without the "-start" of asynchronous ones
    num_bytes: int  # of its largest result
    result: str  # type and shape
    computation: str  # that it is part of
    in_entry: bool  # runs once per call, not in a loop or a fusion


def instructions(text: str) -> Iterator[Instruction]:
    """All instructions of `compiled.as_text()`."""
    computation, in_entry = "", False
    for line in text.splitlines():
        if found := _COMPUTATION.match(line):
            computation, in_entry = found[2], bool(found[1])
        elif found := _INSTRUCTION.match(line):
            yield Instruction(found[2].removesuffix("-start"), _largest(found[1]), found[1], computation, in_entry)


def collectives(text: str) -> list[Instruction]:
    """Exchanges between devices; one that is split over several fused computations counts several times."""
    return [found for found in instructions(text) if found.operation in _KINDS]


def copies_in_loops(text: str) -> list[Instruction]:
    """Copies outside of the entry computation: in the bodies of loops, and in fusions, wherever those are called."""
    return [found for found in instructions(text) if found.operation == "copy" and not found.in_entry]


def host_calls(text: str) -> list[str]:
    """Lines by which the running program would wait for, or talk to, the host."""
    return [line.strip()[:200] for line in text.splitlines()
            if (" custom-call(" in line or "feed(" in line or " send(" in line or " recv(" in line)
            and any(word in line.split("metadata=")[0] for word in (*_HOST, "is_host_transfer=true"))]


def _largest(result: str) -> int:
    sizes = [
        _BYTES.get(dtype, 0) * math.prod(int(size) for size in shape.split(",") if size)
        for dtype, shape in _ARRAY.findall(result)
    ]
    return max(sizes, default=0)
