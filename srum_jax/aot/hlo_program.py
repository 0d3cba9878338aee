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

    @property
    def origin(self) -> str:
        """The operation of the model that it comes from, as JAX calls it."""
        found = re.search(r'op_name="([^"]*)"', self.attributes)
        return found[1] if found else ""

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
        self._looping: set[str] = set()
        self.executions = self._count()

    def operand(self, computation: str, op: Op, index: int) -> Op | None:
        """The instruction that an operand names; None if the text does not have it."""
        if index >= len(op.operands):
            return None
        return self._by_name[computation].get(op.operands[index])

    def root(self, computation: str) -> Op | None:
        """The instruction whose result is the computation's."""
        return next((op for op in self.computations.get(computation, ()) if op.is_root), None)

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
        condition, body, begin = loop.attribute("condition"), loop.attribute("body"), self.operand(computation, loop, 0)
        test, where, outer = self.root(condition), condition, ()
        if test is not None and test.operation == "fusion":
            where, outer = test.attribute("calls"), (condition, test.operands, ())
            test = self.root(where)
        if test is None or test.operation != "compare" or "direction=LT" not in test.attributes:
            return None
        counter, limit = (self._scalar(where, name, outer) for name in test.operands)
        if counter is None or limit is None or counter[0] is None or begin is None or begin.operation != "tuple":
            return None

        def at_first(element: int | None, addend: int) -> int | None:
            """What "element of the loop's tuple, plus a constant" is when the loop begins."""
            found = (None, 0) if element is None else self._scalar(computation, begin.operands[element])
            return None if found is None or found[0] is not None else found[1] + addend

        first, last = at_first(*counter), at_first(*limit)
        after = self._scalar(body, self.root(body).operands[counter[0]])
        if first is None or last is None or after is None or after[0] != counter[0] or after[1] <= 0:
            return None
        return max(0, -(-(last - first) // after[1]))

    def _scalar(self, computation: str, name: str, outer: tuple = ()) -> tuple[int | None, int] | None:
        """What a scalar is: an element of the computation's tuple, by its place, or None for nothing, plus a constant.

        Args:
          computation: in which it is named.
          name: of the instruction.
          outer: where the computation is that of a fusion: what calls it, with which operands, and what calls that.
        """
        op = self._by_name[computation].get(name)
        match op and op.operation:
            case "copy" | "bitcast" | "convert" | "reshape":
                return self._scalar(computation, op.operands[0], outer)
            case "constant":
                value = _integer(op)
                return None if value is None else (None, value)
            case "get-tuple-element":
                return int(_INDEX.search(op.attributes)[1]), 0
            case "parameter" if outer:
                caller, operands, above = outer
                return self._scalar(caller, operands[int(op.arguments)], above)
            case "fusion" if (root := self.root(op.attribute("calls"))) is not None:
                return self._scalar(op.attribute("calls"), root.name, (computation, op.operands, outer))
            case "add":
                terms = [self._scalar(computation, operand, outer) for operand in op.operands]
                elements = [term[0] for term in terms if term is not None and term[0] is not None]
                if None not in terms and len(elements) <= 1:
                    return elements[0] if elements else None, sum(addend for _, addend in terms)
        return None


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
