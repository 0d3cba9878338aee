"""FLOPs and exchanges between chips in a compiled program, each as often as it runs.

XLA's own count sees the body of a loop once, and a Pallas kernel not at all. Here every dot and convolution counts as
often as the loops around it turn (2 FLOPs per multiply-add; padding of a window is no work, padding of an array is).
Kernels are listed by name and operands, for whoever knows what they do.
"""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from srum_jax.aot.hlo_program import Op, Program, arrays
from srum_jax.errors import Failure

_KERNEL = "tpu_custom_call"
_DIMENSIONS = re.compile(r"dim_labels=([\w?]+)_([\w?]+)->([\w?]+)")
_WINDOW = re.compile(r"window=\{([^}]*)\}")
_COUNT = re.compile(r"(feature|batch)_group_count=(\d+)")
_CONTRACTING = re.compile(r"lhs_contracting_dims=\{([\d,]*)\}")


@dataclasses.dataclass(frozen=True)
class Product:
    """A dot or a convolution."""

    name: str
    where: str  # the operation of the model that it comes from, as JAX calls it
    flops: float  # of all its executions
    executions: int


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A call of a Pallas kernel."""

    name: str
    operands: tuple[tuple[int, ...], ...]  # shapes
    executions: int


def products(program: Program) -> list[Product]:
    """All dots and convolutions that run at least once."""
    found = []
    for computation, ops in program.computations.items():
        times = program.executions[computation]
        for op in ops if times else ():
            if op.operation in ("dot", "convolution"):
                count = _dot_flops if op.operation == "dot" else _convolution_flops
                shapes = [_shape(program, computation, op, index) for index in (0, 1)]
                found.append(Product(op.name, op.origin, times * count(op, *shapes), times))
    return found


def kernels(program: Program) -> list[Kernel]:
    """All calls of Pallas kernels that run at least once."""
    return [
        Kernel(op.name, tuple(_shape(program, computation, op, index) for index in range(len(op.operands))),
               program.executions[computation])
        for computation, ops in program.computations.items() for op in ops
        if op.operation == "custom-call" and f'custom_call_target="{_KERNEL}"' in op.attributes
        and program.executions[computation]
    ]


def _shape(program: Program, computation: str, op: Op, index: int) -> tuple[int, ...]:
    operand = program.operand(computation, op, index)
    if operand is None:
        raise Failure(f"{op.name}: operand {index} is not defined in {computation}.")
    found = arrays(operand.result)
    return found[0][1] if found else ()


def _dot_flops(op: Op, left: Sequence[int], right: Sequence[int]) -> float:
    contracting = [int(dim) for dim in _CONTRACTING.search(op.attributes)[1].split(",") if dim]
    ((_, result), *_) = arrays(op.result)
    return 2.0 * np.prod(result, dtype=float) * np.prod([left[dim] for dim in contracting], dtype=float)


def _convolution_flops(op: Op, image: Sequence[int], kernel: Sequence[int]) -> float:
    """As XLA counts one convolution: pairs of window and image position that do not lie in the padding."""
    labels = _DIMENSIONS.search(op.attributes)
    if labels is None:
        raise Failure(f"{op.name}: a convolution without dim_labels.")
    image_at, kernel_at, result_at = labels.groups()
    ((_, result), *_) = arrays(op.result)
    groups = {name: int(count) for name, count in _COUNT.findall(op.attributes)}
    pairs = 1.0
    window = _window(op, sum(label.isdigit() for label in kernel_at))
    for dim, (size, stride, low, image_dilation, kernel_dilation) in enumerate(window):
        label = str(dim)
        pairs *= _valid_pairs(image[image_at.index(label)], size, result[result_at.index(label)], stride, low,
                              image_dilation, kernel_dilation)
    return (2.0 * pairs * image[image_at.index("f")] / groups.get("feature", 1) * kernel[kernel_at.index("o")]
            * image[image_at.index("b")] / groups.get("batch", 1))


def _window(op: Op, dims: int) -> list[tuple[int, int, int, int, int]]:
    """Of each spatial dimension: size, stride, padding before, dilation of the image, dilation of the kernel."""
    found = _WINDOW.search(op.attributes)
    fields = dict(part.split("=") for part in found[1].split()) if found else {}

    def values(name: str, default: int) -> list[int]:
        return [int(part.split("_")[0]) for part in fields[name].split("x")] if name in fields else [default] * dims

    names = (("size", 1), ("stride", 1), ("pad", 0), ("lhs_dilate", 1), ("rhs_dilate", 1))
    return list(zip(*(values(name, default) for name, default in names), strict=True))


def _valid_pairs(image: int, size: int, result: int, stride: int, low: int, image_dilation: int,
                 kernel_dilation: int) -> int:
    last = (image - 1) * image_dilation
    starts = np.arange(result, dtype=np.int64) * stride - low
    pairs = 0
    for offset in range(0, size * kernel_dilation, kernel_dilation):
        place = starts + offset
        pairs += int(np.sum((place >= 0) & (place <= last) & (place % image_dilation == 0)))
    return pairs
