"""The least time that work takes on given chips: of generation by formula, of a train step by its compiled program.

Estimates from published rates, never measurements.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

from srum_jax.aot.topology import Chip

if TYPE_CHECKING:
    from srum_jax.families.costs import Cost

DRAWING_ASSUMPTIONS = (
    "Estimate, not a measurement: the largest of three times, each at the full published rate of the chips and all "
    "overlapped: matrix products at the bfloat16 peak (those of the float32 autoencoder too, which JAX computes in one "
    "bfloat16 pass by default), memory traffic with everything elementwise fused, and exchanges between chips over all "
    "links of a chip. Real programs are slower."
)
STEP_ASSUMPTIONS = (
    "Estimates, not measurements, from published rates: matrix products and attention kernels at the full bfloat16 "
    "peak; an exchange brings its bytes over all links of a chip at once, or between slices over the chip's share of "
    "its host's network. Traffic with the chip's memory is left out. \"At least\" overlaps all of it perfectly; "
    "\"exposed\" adds to compute the exchanges that nothing hides, and takes those that something hides as free. Real "
    "programs are slower: kernels do not reach the peak."
)


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Seconds for one batch."""

    compute: float
    memory: float
    exchange: float

    @property
    def seconds(self) -> float:
        """The least time."""
        return max(self.compute, self.memory, self.exchange)

    @property
    def bound(self) -> str:
        """What takes it."""
        return max(("compute", "memory", "exchange"), key=lambda name: getattr(self, name))


def roofline(cost: "Cost", chip: Chip, rows: int, *, data: int, fsdp: int, tensor: int) -> Roofline:
    """Of one program on a batch.

    Args:
      cost: of the program.
      chip: of the slice.
      rows: of the batch, a multiple of data x fsdp.
      data, fsdp, tensor: sizes of the mesh.
    """
    rows_of_chip = rows / (data * fsdp)
    if not cost.passes:  # the autoencoder lies whole on every chip, and splits rows only
        fsdp = tensor = 1
    # Weights that are split over fsdp arrive from the other chips, are written, and are read.
    share = cost.weight_bytes / tensor
    received = share * (fsdp - 1) / fsdp
    summed = cost.summed_values * rows_of_chip * 2 * 2 * (tensor - 1) / tensor
    return Roofline(
        compute=cost.flops * rows_of_chip / tensor / chip.peak_flops,
        memory=(share + received + cost.activation_bytes * rows_of_chip / tensor) / chip.hbm_bandwidth,
        exchange=(received + summed) / chip.ici_bandwidth,
    )


@dataclasses.dataclass(frozen=True)
class StepRoofline:
    """Seconds of one step on one chip."""

    compute: float
    exchanges: dict[str, float]  # by kind, within a slice
    between_slices: float
    waiting: float  # for exchanges that nothing hides; part of the two above

    @property
    def terms(self) -> dict[str, float]:
        """All of them by name."""
        return {"compute": self.compute} | self.exchanges | {"between slices": self.between_slices}

    @property
    def at_least(self) -> float:
        """If all overlaps: the longest of compute, all exchanges within slices, and all between them."""
        return max(self.compute, sum(self.exchanges.values()), self.between_slices)

    @property
    def bound(self) -> str:
        """Which single term is the longest."""
        return max(self.terms, key=lambda name: self.terms[name])

    @property
    def exposed(self) -> float:
        """If the program waits wherever its schedule says so."""
        return self.compute + self.waiting


def step_roofline(compiled_flops: float, collectives: list[dict[str, Any]], chip: Chip) -> StepRoofline:
    """Of one compiled step.

    Args:
      compiled_flops: of one chip.
      collectives: rows of `hlo_collectives.summary`.
      chip: that the step was compiled for.
    """
    exchanges: dict[str, float] = {}
    between = waiting = 0.0
    for row in collectives:
        rate = chip.dcn_bandwidth if row["crosses_slices"] else chip.ici_bandwidth
        seconds = row["received_bytes"] / rate
        waiting += 0.0 if row["hidden"] else seconds
        if row["crosses_slices"]:
            between += seconds
        else:
            exchanges[row["kind"]] = exchanges.get(row["kind"], 0.0) + seconds
    return StepRoofline(compiled_flops / chip.peak_flops, exchanges, between, waiting)
