"""Bytes between a chip's memory (HBM) and its units, by the compiled program: each instruction reads and writes once.

Fusions count as one instruction, and so do the start and the end of an exchange. Where a fusion takes a slice of an
operand (the layer of a stack, say), or writes into a part of an array in place, only that part counts. What the
compiler has put into the small on-chip memory costs nothing. It is somewhat more than really happens: parts of large
results can stay on the chip, too.
"""

import re

from srum_jax.aot.hlo_collectives import END, STEP
from srum_jax.aot.hlo_program import Op, Program, num_bytes

_PLACED = re.compile(r"(\w+)\[([\d,]*)\](\{[^}]*\})?")
_ALIASED = re.compile(r"\{(\d*)\}: \((\d+), \{\}")  # result and operand that are one array
_ON_CHIP = "S(1)"
_FREE = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "iota",
         "after-all", "partition-id", "replica-id", "copy-start", "async-start", "async-update", "optimization-barrier")
_SLICES = ("dynamic-slice", "slice", "gather")
_NO_BYTES = ("token", "opaque")


def hbm_bytes(program: Program) -> float:
    """Of one chip and one run of the program."""
    total = 0.0
    for computation, ops in program.computations.items():
        times = program.executions[computation]
        if not times or computation in program.fused or computation in program.applied:
            continue
        total += times * sum(_op_bytes(program, computation, op) for op in ops if op.operation not in _FREE)
    return total


def _op_bytes(program: Program, computation: str, op: Op) -> float:
    if op.operation.endswith("-done"):  # counted where it starts
        return 0
    results = _bytes(op.result)
    operands = [program.operand(computation, op, index) for index in range(len(op.operands))]
    sizes = [0 if operand is None else _bytes(operand.result) for operand in operands]
    if op.operation in _SLICES:
        return 2 * results
    if op.operation == "dynamic-update-slice":
        return 2 * sizes[1]
    if op.result.startswith("(") and (op.operation.endswith("-start") or op.operation in ("send", "recv")):
        return results  # such a tuple lists what is read, too
    inner = op.attribute("calls")
    if inner.startswith(STEP) or op.name.startswith(END):
        return _without_what_passes_through(op, sizes)
    if op.operation != "fusion" or inner not in program.computations:
        return results + sum(sizes)
    read, in_place = _parts(program, inner)
    moved = results
    for index, size in enumerate(sizes):
        if index in in_place:  # the array that is updated: neither read nor written as a whole
            moved += 2 * in_place[index] - min(size, results)
        else:
            moved += min(size, read.get(index, size))
    return max(moved, 0)


def _without_what_passes_through(op: Op, sizes: list[int]) -> int:
    """Of a fusion beside an exchange: the arrays in flight are counted where the exchange starts."""
    through = [(int(result or 0), int(operand)) for result, operand in _ALIASED.findall(op.attributes)]
    results = [_bytes(f"{dtype}[{shape}]{layout}") for dtype, shape, layout in _PLACED.findall(op.result)]
    kept = sum(size for number, size in enumerate(results) if number not in {result for result, _ in through})
    return kept + sum(size for number, size in enumerate(sizes) if number not in {operand for _, operand in through})


def _parts(program: Program, fused: str) -> tuple[dict[int, int], dict[int, int]]:
    """Operands of which a fusion reads only slices, and those that it updates in place, with the bytes concerned."""
    ops = program.computations[fused]
    numbers = {op.name: int(op.arguments) for op in ops if op.operation == "parameter"}
    aliases = {name: name for name in numbers}
    for op in ops:
        if op.operation in ("bitcast", "reshape") and op.operands and op.operands[0] in aliases:
            aliases[op.name] = aliases[op.operands[0]]
    sliced: dict[str, int] = dict.fromkeys(numbers, 0)
    whole: set[str] = set()
    in_place: dict[int, int] = {}
    by_name = {op.name: op for op in ops}
    for op in ops:
        for place, name in enumerate(op.operands):
            parameter = aliases.get(name)
            if parameter is None or op.name in aliases:
                continue
            if op.operation in _SLICES and place == 0:
                sliced[parameter] += _bytes(op.result)
            elif op.operation == "dynamic-update-slice" and place == 0:
                in_place[numbers[parameter]] = _bytes(by_name[op.operands[1]].result)
            else:
                whole.add(parameter)
    read = {number: sliced[name] for name, number in numbers.items() if name not in whole}
    return read, in_place


def _bytes(result: str) -> int:
    total = 0
    for dtype, shape, layout in _PLACED.findall(result):
        if dtype not in _NO_BYTES and _ON_CHIP not in layout:
            try:
                total += num_bytes(dtype, tuple(int(size) for size in shape.split(",") if size))
            except KeyError:  # a name inside of a layout, or a type without a size
                continue
    return total
