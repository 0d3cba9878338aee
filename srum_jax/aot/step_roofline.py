"""The least time of a compiled train step on given chips. An estimate from published rates, never a measurement."""

import dataclasses
from typing import Any

from srum_jax.aot.topology import Chip

ASSUMPTIONS = (
    "Estimates, not measurements, from published rates: matrix products and attention kernels at the full bfloat16 "
    "peak; an exchange brings its bytes over all links of a chip at once, or between slices over the chip's share of "
    "its host's network. Traffic with the chip's memory is left out. \"At least\" overlaps all of it perfectly; "
    "\"exposed\" adds to compute the exchanges that nothing hides, and takes those that something hides as free. Real "
    "programs are slower: kernels do not reach the peak."
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
