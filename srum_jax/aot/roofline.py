"""The least time that work takes on given chips. An estimate from published peaks, never a measurement."""

import dataclasses
from typing import TYPE_CHECKING

from srum_jax.aot.topology import Chip

if TYPE_CHECKING:
    from srum_jax.families.costs import Cost

ASSUMPTIONS = (
    "Estimate, not a measurement: the largest of three times, each at the full published rate of the chips and all "
    "overlapped: matrix products at the bfloat16 peak (those of the float32 autoencoder too, which JAX computes in one "
    "bfloat16 pass by default), memory traffic with everything elementwise fused, and exchanges between chips over all "
    "links of a chip. Real programs are slower."
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
