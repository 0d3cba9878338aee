"""Descriptions of TPU slices, and what is published of their chips."""

import dataclasses
import math
import re

from srum_jax.errors import BadInput
from srum_jax.observability.peak_flops import PEAK_FLOPS

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """One kind of TPU chip, which JAX sees as one device. Bandwidths and peaks as published by Google Cloud."""

    name: str  # as in the name of a topology
    dimensions: int  # of the torus that its slices are part of
    hbm_bytes: int  # what the compiler lets a program use, a little less than what the chip has
    peak_flops: float  # dense bfloat16, FLOP/s
    hbm_bandwidth: float  # bytes/s
    ici_bandwidth: float  # bytes/s between chips, all links of a chip together, one direction
    dcn_bandwidth: float  # bytes/s between slices, a chip's share of its host's network


# The compiler's limits of HBM are those that it names itself when a program exceeds them.
CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v5e", 2, int(15.75 * GIB), PEAK_FLOPS["TPU v5e"], 819e9, 200e9, 25e9 / 8),
        Chip("v6e", 2, int(31.25 * GIB), PEAK_FLOPS["TPU v6e"], 1640e9, 400e9, 100e9 / 8),
        Chip("v5p", 3, int(95.74 * GIB), PEAK_FLOPS["TPU v5p"], 2765e9, 600e9, 50e9 / 8),
    )
}


@dataclasses.dataclass(frozen=True)
class Topology:
    """A slice: chips of one kind in a grid."""

    chip: Chip
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """As JAX and `--topology` spell it."""
        return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"

    @property
    def num_chips(self) -> int:
        """Of the whole slice."""
        return math.prod(self.shape)


def parse_topology(text: str) -> Topology:
    """Reads for instance "v5e:4x4" or "v5p:2x2x1".

    Raises:
      BadInput: saying what was expected.
    """
    name, separator, grid = text.partition(":")
    if name not in CHIPS or not separator:
        raise BadInput(f"--topology: expected CHIP:GRID with a chip of {', '.join(CHIPS)}, for instance v5e:4x4 "
                            f"or v5p:2x2x1; found {text!r}.")
    chip = CHIPS[name]
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", grid) or grid.count("x") != chip.dimensions - 1:
        raise BadInput(f"--topology: expected {chip.dimensions} sizes for {name}, for instance "
                            f"{name}:{'x'.join('2' * chip.dimensions)}; found {grid!r}.")
    return Topology(chip, tuple(map(int, grid.split("x"))))
