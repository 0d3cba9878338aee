"""Exchanges between chips in a compiled program: what, how much, how often, over which chips, and what hides them.

An exchange is hidden where the program computes while it runs: between its start and its end, or in one fusion with it.
One that is neither makes the chip wait. One that is spread over several fusions (its start, steps beside products, its
end) stands in each of them, always with the same channel: it counts where it starts. Between slices, programs send to
the host and receive from it, whose network does the exchange (MegaScale); that counts as what the host is asked to do.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Callable, Iterable

import numpy as np

from srum_jax.aot.hlo_program import Op, Program, arrays, num_bytes

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "ragged-all-to-all", "collective-permute",
         "collective-broadcast")
_FUSED_SCATTER = "all-reduce-scatter"  # fusions whose all-reduce leaves each chip its share alone
_COMPUTE = ("dot", "convolution")
_KERNEL = '"tpu_custom_call"'
_BETWEEN_SLICES = re.compile(r'_xla_megascale_transfer_type="(\w+)"')
_RENDEZVOUS = re.compile(r'_xla_host_transfer_rendezvous="([^"]*)"')  # what a send and its receive have in common
_ONE_TO_ONE = "one-to-one"  # the network's name for a permutation
# Names that the compiler gives to the fusions of an exchange, and to what its steps call.
START, END, STEP = "async-collective-start", "async-collective-done", "async_collective_fusion"
_CHANNEL = re.compile(r"channel_id=(\d+)")
_AXES = re.compile(r"'([^']+)'=(\d+)")


@dataclasses.dataclass(frozen=True)
class Collective:
    """One instruction that exchanges data. Bytes are those of one chip and one execution."""

    kind: str  # of KINDS
    name: str
    num_bytes: int  # of the whole array: gathered, before it is scattered, or reduced
    received_bytes: float  # that a ring brings to a chip
    group: int  # chips that take part together
    over: tuple[str, ...]  # mesh axes along which they lie
    crosses_slices: bool
    executions: int
    in_loop: bool
    hidden: bool
    where: str  # the operation of the model that it comes from


@dataclasses.dataclass(frozen=True)
class MeshOfChips:
    """How chips are numbered in a program: along the mesh's axes, the last one fastest."""

    axes: dict[str, int]
    num_slices: int = 1

    @property
    def size(self) -> int:
        """All chips."""
        return math.prod(self.axes.values())

    def over(self, group: np.ndarray) -> tuple[str, ...]:
        """Axes along which the chips of a group differ."""
        places = np.unravel_index(group, tuple(self.axes.values()))
        return tuple(name for name, place in zip(self.axes, places, strict=True) if len(np.unique(place)) > 1)

    def crosses_slices(self, group: np.ndarray) -> bool:
        """Whether a group has chips of several slices, which are the outermost part of the mesh."""
        return len(np.unique(group // (self.size // self.num_slices))) > 1


def collectives(program: Program, chips: MeshOfChips) -> list[Collective]:
    """All exchanges that run at least once."""
    hiding = _fusions_that_hide(program)
    spread = _spread(program)
    found = []
    for computation, ops in program.computations.items():
        times = program.executions[computation]
        if not times or (computation in spread and spread[computation] is None):
            continue
        scatter = computation.startswith(_FUSED_SCATTER)
        for place, op in enumerate(ops):
            if op.operation == "send" and (asked := _BETWEEN_SLICES.search(op.attributes)):
                found.append(_between_slices(program, computation, place, asked[1], chips, times))
                continue
            kind = op.operation.removesuffix("-start")
            if kind not in KINDS:
                continue
            kind = "reduce-scatter" if scatter and kind == "all-reduce" else kind
            hidden = spread.get(computation) or computation in hiding or (
                op.operation.endswith("-start") and _computes_until_done(program, ops[place + 1:], op.name))
            found.append(_collective(program, computation, op, kind, chips, times, hidden))
    return found


def _collective(program: Program, computation: str, op: Op, kind: str, chips: MeshOfChips, times: int,
                hidden: bool) -> Collective:
    size = _whole_bytes(program, computation, op, kind)
    pairs = _pairs(op)
    groups = [_first_group(op, chips)] if pairs is None else pairs[pairs[:, 0] != pairs[:, 1]]
    members = max((len(group) for group in groups), default=1)  # 1: nothing moves
    over = {axis for group in groups for axis in chips.over(group)}
    crosses = any(chips.crosses_slices(group) for group in groups)
    received = _received(kind, size, members) if members > 1 else 0.0
    return Collective(kind, op.name, size, received, members, tuple(axis for axis in chips.axes if axis in over),
                      crosses, times, program.in_loop(computation), hidden, op.origin)


def _between_slices(program: Program, computation: str, place: int, asked: str, chips: MeshOfChips,
                    times: int) -> Collective:
    ops = program.computations[computation]
    send, kind = ops[place], asked.lower().replace("_", "-")
    kind = "collective-permute" if kind == _ONE_TO_ONE else kind
    sent = sum(num_bytes(*array) for array in arrays(program.operand(computation, send, 0).result))
    group = np.arange(chips.num_slices) * (chips.size // chips.num_slices)  # chips at one place in their slices
    size = sent * len(group) if kind == "all-gather" else sent
    hidden = _computes_until_received(program, ops, place)
    received = _received(kind, size, len(group))
    return Collective(kind, send.name, size, received, len(group), chips.over(group), True, times,
                      program.in_loop(computation), hidden, "")


def _received(kind: str, size: int, group: int) -> float:
    share = (group - 1) / group
    return size * {"all-reduce": 2 * share, "collective-permute": 1.0}.get(kind, share)


def _whole_bytes(program: Program, computation: str, op: Op, kind: str) -> int:
    results = [num_bytes(*array) for array in arrays(op.result)]
    operands = [program.operand(computation, op, index) for index in range(len(op.operands))]
    given = [num_bytes(*array) for operand in operands if operand is not None for array in arrays(operand.result)]
    if kind in ("reduce-scatter", "collective-permute"):
        return sum(given)
    if kind == "all-gather" and op.operation.endswith("-start"):
        return max(sum(results) - sum(given), 0)  # a start's result lists its operands too
    return sum(results) if not op.operation.endswith("-start") else sum(given)


def _pairs(op: Op) -> np.ndarray | None:
    """Int [N, 2]: which chip sends to which, if an exchange says so."""
    found = re.search(r"source_target_pairs=\{((?:\{\d+,\d+\},?)*)\}", op.attributes)
    return None if found is None else np.array(re.findall(r"(\d+),(\d+)", found[1]), int).reshape(-1, 2)


def _first_group(op: Op, chips: MeshOfChips) -> np.ndarray:
    """Numbers of the chips that exchange with each other, of the first such group."""
    text = op.attributes
    if found := re.search(r"replica_groups=\{\{([\d,]+)\}", text):
        return np.array([int(number) for number in found[1].split(",")])
    if found := re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text):
        return _numbered(found[2], found[3]).reshape(_sizes(found[1]))[0]
    if found := re.search(r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))? "
                          r"\{([^}]*)\}", text):
        sizes = [(name, int(size)) for name, size in _AXES.findall(found[1])]
        grid = _numbered(found[2], found[3]) if found[2] else np.arange(math.prod(size for _, size in sizes))
        grid = grid.reshape([size for _, size in sizes])
        taken = set(re.findall(r"'([^']+)'", found[4]))
        return grid[tuple(slice(None) if name in taken else 0 for name, _ in sizes)].reshape(-1)
    return np.arange(chips.size)


def _numbered(sizes: str, order: str | None) -> np.ndarray:
    grid = np.arange(math.prod(_sizes(sizes))).reshape(_sizes(sizes))
    return (grid.transpose(_sizes(order)) if order else grid).reshape(-1)


def _sizes(text: str) -> list[int]:
    return [int(size) for size in text.split(",")]


def _fusions_that_hide(program: Program) -> set[str]:
    """Computations whose exchanges are hidden: fusions that compute too, and those that others compute beside."""
    hiding = set()
    for ops in program.computations.values():
        for place, op in enumerate(ops):
            called = op.attribute("calls")
            if called not in program.computations or called.startswith(_FUSED_SCATTER):
                continue
            # A call that returns before what it calls has ended.
            beside = op.operation == "async-start" and _computes_until_done(program, ops[place + 1:], op.name)
            if beside or any(_is_compute(inner) for inner in program.computations[called]):
                hiding.add(called)
    return hiding


def _spread(program: Program) -> dict[str, bool | None]:
    """Fused computations of exchanges that are spread over fusions: of their starts, whether something is computed
    before their ends; of all others None, since they count where they start."""
    found: dict[str, bool | None] = {}
    for ops in program.computations.values():
        for place, op in enumerate(ops):
            called = op.attribute("calls")
            if called not in program.computations or op.operation != "fusion":
                continue
            if called.startswith(STEP) or op.name.startswith(END):
                found[called] = None
            elif op.name.startswith(START):
                channels = _channels(program, called)
                found[called] = _computes_before(program, ops[place + 1:], lambda later, channels=channels: (
                    later.name.startswith(END) and channels & _channels(program, later.attribute("calls"))))
    return found


def _computes_before(program: Program, later: Iterable[Op], is_end: Callable[[Op], bool]) -> bool:
    """Whether something is computed before the first instruction that ends what was begun."""
    for op in later:
        if is_end(op):
            return False
        if _computes(program, op):
            return True
    return False


def _channels(program: Program, computation: str) -> set[str]:
    return {found[1] for op in program.computations.get(computation, ())
            if (found := _CHANNEL.search(op.attributes))}


def _is_compute(op: Op) -> bool:
    return op.operation in _COMPUTE or (op.operation == "custom-call" and _KERNEL in op.attributes)


def _computes_until_done(program: Program, later: Iterable[Op], started: str) -> bool:
    return _computes_before(program, later, lambda op: started in op.operands and (
        "-done" in op.operation or "-done" in op.name))


def _computes(program: Program, op: Op) -> bool:
    return _is_compute(op) or op.operation == "while" or any(
        _is_compute(inner) for called in op.called for inner in program.computations.get(called, ()))


def _computes_until_received(program: Program, ops: list[Op], place: int) -> bool:
    """Whether the chip computes between a send to the host and the end of the receive that belongs to it."""
    meeting = _RENDEZVOUS.search(ops[place].attributes)
    receives = [op.name for op in ops if op.operation == "recv" and meeting is not None
                and meeting[0] in op.attributes]
    return any(_computes_until_done(program, ops[place + 1:], receive) for receive in receives)


def summary(found: Iterable[Collective]) -> list[dict]:
    """Exchanges of one kind, size and place together, those that move most first; plain values."""
    groups: dict[tuple, list[Collective]] = collections.defaultdict(list)
    for one in found:
        groups[one.kind, one.num_bytes, one.group, one.over, one.crosses_slices, one.in_loop, one.hidden].append(one)
    rows = []
    for (kind, size, group, over, crosses, in_loop, hidden), members in groups.items():
        executions = sum(one.executions for one in members)
        rows.append({
            "kind": kind, "bytes": size, "instructions": len(members), "executions": executions, "group": group,
            "over": list(over), "crosses_slices": crosses, "in_loop": in_loop, "hidden": hidden,
            "received_bytes": sum(one.received_bytes * one.executions for one in members),
            "where": sorted({one.where for one in members})[0],
        })
    return sorted(rows, key=lambda row: -row["received_bytes"])
