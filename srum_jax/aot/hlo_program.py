"""A compiled program's text as computations that call each other, and how many times each of them runs."""

import dataclasses
import re

import numpy as np

from srum_jax.errors import Failure

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
# "  ROOT %name = bf16[4,8]{1,0:T(8,128)} fusion(%a, %b), kind=kLoop, calls=%c": name, type, operation, and the rest.
_LINE = re.compile(r"^\s+(ROOT )?%?([\w.-]+) = (.*?) ([a-z][a-z0-9-]*)\((.*)$")
_NAME = re.compile(r"%([\w.-]+)")
_CALLED = re.compile(r"(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")
_KNOWN_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_INDEX = re.compile(r"index=(\d+)")
_BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4,
          "s64": 8, "u64": 8, "f64": 8}
_MAY_CALL_HOST = ("custom-call", "infeed", "outfeed", "send", "recv")
_HOST = ("callback", "infeed", "outfeed", "SendToHost", "RecvFromHost", "host_transfer", "is_host_transfer=true")
_SHOWN = 200  # characters of such an instruction
_SMALL_INTEGERS = ("s32", "u32", "s64", "u64")


@dataclasses.dataclass(frozen=True)
class Op:
    """One instruction."""

    name: str
    operation: str
    result: str  # type, perhaps a tuple's
    operands: tuple[str, ...]  # names
    attributes: str  # all that follows the operands
    arguments: str  # between the parentheses, as written
    is_root: bool

    @property
    def called(self) -> tuple[str, ...]:
        """Computations that it names."""
        found = _CALLED.findall(self.attributes)
        for group in _BRANCHES.findall(self.attributes):
            found += [name.strip().lstrip("%") for name in group.split(",")]
        return tuple(found)

    def attribute(self, name: str) -> str:
        """What an attribute names, for instance the computation of `body`; "" if there is none."""
        found = re.search(rf"\b{name}=%?([\w.-]+)", self.attributes)
        return found[1] if found else ""


def arrays(result: str) -> list[tuple[str, tuple[int, ...]]]:
    """Types and shapes of the arrays of a result, a tuple's in order."""
    return [(dtype, tuple(int(size) for size in shape.split(",") if size))
            for dtype, shape in _ARRAY.findall(result) if dtype in _BYTES]


def num_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Of one array."""
    return _BYTES[dtype] * int(np.prod(shape, dtype=np.int64))


class Program:
    """A parsed program.

    Attributes:
      computations: instructions of each computation by its name, callees before callers.
      entry: name of the one that the program begins with.
      executions: how many times each computation runs in one call of the program. Of branches, all are taken to run.
      fused: names of computations that fusions and asynchronous starts run.
      applied: names of those that reductions, sorts and the like apply to single values.
      unknown_loops: names of loops whose number of trips could not be read; they are taken to run once.
    """

    def __init__(self, text: str):
        self.computations: dict[str, list[Op]] = {}
        self.entry = ""
        self._read(text)
        if not self.entry:
            raise Failure("expected the text of a compiled program, found no ENTRY computation.")
        self._by_name = {name: {op.name: op for op in ops} for name, ops in self.computations.items()}
        self.unknown_loops: list[str] = []
        self.fused = self._called_by(("fusion", "async-start"))
        self.applied = {op.attribute("to_apply") for ops in self.computations.values() for op in ops
                        if op.operation != "call"}
        self._looping: set[str] = set()
        self.executions = self._count()

    def operand(self, computation: str, op: Op, index: int) -> Op | None:
        """The instruction that an operand names; None if the text does not have it."""
        if index >= len(op.operands):
            return None
        return self._by_name[computation].get(op.operands[index])

    def root(self, computation: str) -> Op | None:
        """The instruction whose result is the computation's."""
        return next((op for op in self.computations[computation] if op.is_root), None)

    def _called_by(self, operations: tuple[str, ...]) -> set[str]:
        return {name for ops in self.computations.values() for op in ops if op.operation in operations
                for name in op.called}

    def in_loop(self, computation: str) -> bool:
        """Whether a computation belongs to the body of a loop, however deep."""
        return computation in self._looping

    def _read(self, text: str) -> None:
        ops: list[Op] = []
        for line in text.splitlines():
            if not line.startswith(" "):
                if found := _COMPUTATION.match(line):
                    ops = self.computations.setdefault(found[2], [])
                    self.entry = found[2] if found[1] else self.entry
            elif found := _LINE.match(line):
                arguments, attributes = _split_arguments(found[5])
                ops.append(Op(found[2], found[4], found[3], tuple(_NAME.findall(arguments)), attributes, arguments,
                              bool(found[1])))

    def _count(self) -> dict[str, int]:
        counts = dict.fromkeys(self.computations, 0)
        counts[self.entry] = 1
        for name in reversed(self.computations):  # callers come after what they call
            for op in self.computations[name]:
                times = counts[name] * (self._trips(name, op) if op.operation == "while" and counts[name] else 1)
                for called in op.called:
                    if called in counts:
                        counts[called] += times
                        if op.operation == "while" or name in self._looping:
                            self._looping.add(called)
        return counts

    # -- trips of a loop: known, or first, limit and step of a counter ----------------------------------------------

    def _trips(self, computation: str, loop: Op) -> int:
        if found := _KNOWN_TRIPS.search(loop.attributes):
            return int(found[1])
        trips = self._counted_trips(computation, loop)
        if trips is None:
            self.unknown_loops.append(loop.name)
            return 1
        return trips

    def _counted_trips(self, computation: str, loop: Op) -> int | None:
        condition, body = loop.attribute("condition"), loop.attribute("body")
        test = self._unfused(condition)
        if test is None or test[1].operation != "compare" or "direction=LT" not in test[1].attributes:
            return None
        inner, compare, outer = test
        sides = [self._source(inner, compare.operands[side], outer) for side in (0, 1)]
        start = self._loop_constant(computation, loop, sides[0])
        limit = sides[1] if isinstance(sides[1], int) else self._loop_constant(computation, loop, sides[1])
        step = self._step(body, sides[0])
        if start is None or limit is None or not step or step < 0:
            return None
        return max(0, -(-(limit - start) // step))

    def _unfused(self, computation: str) -> tuple[str, Op, list[str]] | None:
        """The root of a computation, inside of a fusion if it is one; with where it lies and the fusion's operands."""
        root = self.root(computation)
        if root is not None and root.operation == "fusion" and root.attribute("calls") in self.computations:
            inner = root.attribute("calls")
            inner_root = self.root(inner)
            return None if inner_root is None else (inner, inner_root, [computation, *root.operands])
        return None if root is None else (computation, root, [])

    def _source(self, computation: str, name: str, outer: list[str]) -> int | str | None:
        """A constant's value, or "index N" of the loop's tuple that a name stands for."""
        op = self._by_name[computation].get(name)
        while op is not None and op.operation in ("copy", "bitcast", "convert", "reshape"):
            op = self._by_name[computation].get(op.operands[0])
        if op is None:
            return None
        if op.operation == "constant":
            return _integer(op)
        if op.operation == "get-tuple-element":
            return f"index {_INDEX.search(op.attributes)[1]}"
        if op.operation == "parameter" and outer:
            return self._source(outer[0], outer[1:][int(op.arguments)], [])
        return None

    def _loop_constant(self, computation: str, loop: Op, source: int | str | None) -> int | None:
        """What the loop's tuple holds at "index N" when the loop begins."""
        if not isinstance(source, str):
            return source
        start = self.operand(computation, loop, 0)
        index = int(source.removeprefix("index "))
        if start is None or start.operation != "tuple" or index >= len(start.operands):
            return None
        found = self._source(computation, start.operands[index], [])
        return found if isinstance(found, int) else None

    def _step(self, body: str, counter: int | str | None) -> int | None:
        """By how much the body raises the counter."""
        root = self.root(body)
        if not isinstance(counter, str) or root is None or root.operation != "tuple":
            return None
        op = self._by_name[body].get(root.operands[int(counter.removeprefix("index "))])
        where, outer = body, []
        while op is not None and op.operation in ("copy", "bitcast", "fusion", "convert"):
            if op.operation == "fusion":
                outer = [where, *op.operands]
                where = op.attribute("calls")
                op = self.root(where) if where in self.computations else None
            else:
                op = self._by_name[where].get(op.operands[0])
        if op is None or op.operation != "add":
            return None
        steps = [self._source(where, name, outer) for name in op.operands]
        return next((step for step in steps if isinstance(step, int)), None)


def host_calls(program: Program) -> list[str]:
    """Instructions by which the running program would wait for, or talk to, the host."""
    return [f"{op.operation} {op.name}{op.attributes}"[:_SHOWN] for ops in program.computations.values() for op in ops
            if op.operation in _MAY_CALL_HOST
            and any(word in op.operation + op.attributes.split("metadata=")[0] for word in _HOST)]


def _split_arguments(text: str) -> tuple[str, str]:
    """What stands before the closing parenthesis of the operands, and what follows."""
    depth = 1
    for place, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return text[:place], text[place + 1:]
    return text, ""


def _integer(op: Op) -> int | None:
    ((dtype, shape), *_) = arrays(op.result) or [("", ())]
    if dtype not in _SMALL_INTEGERS or shape or not re.fullmatch(r"-?\d+", op.arguments.strip()):
        return None
    return int(op.arguments)
