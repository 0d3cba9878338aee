"""The least time that work takes on given chips: of generation by formula, of a train step by its compiled program.

Estimates from published rates, never measurements.
"""

from collections.abc import Mapping
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


def roofline(cost: "Cost", chip: Chip, rows: int, axes: Mapping[str, int]) -> dict[str, Any]:
    """Of one program on a batch, seconds of `compute`, `memory` and `exchange`; the longest is `bound`, of `seconds`.

    Args:
      cost: of the program.
      chip: of the slice.
      rows: of the batch, a multiple of data x fsdp.
      axes: sizes of the mesh.
    """
    fsdp, tensor = axes["fsdp"], axes["tensor"]
    rows_of_chip = rows / (axes["data"] * fsdp)
    if not cost.passes:  # the autoencoder lies whole on every chip, and splits rows only
        fsdp = tensor = 1
    # Weights that are split over fsdp arrive from the other chips, are written, and are read.
    share = cost.weight_bytes / tensor
    received = share * (fsdp - 1) / fsdp
    summed = cost.summed_values * rows_of_chip * 2 * 2 * (tensor - 1) / tensor
    terms = {
        "compute": cost.flops * rows_of_chip / tensor / chip.peak_flops,
        "memory": (share + received + cost.activation_bytes * rows_of_chip / tensor) / chip.hbm_bandwidth,
        "exchange": (received + summed) / chip.ici_bandwidth,
    }
    return terms | {"seconds": max(terms.values()), "bound": max(terms, key=terms.__getitem__)}


def step_roofline(compiled_flops: float, collectives: list[dict[str, Any]], chip: Chip) -> dict[str, Any]:
    """Seconds of one compiled step on one chip.

    Args:
      compiled_flops: of one chip.
      collectives: rows of `hlo_collectives.summary`.
      chip: that the step was compiled for.

    Returns:
      `seconds` by term, the name of the longest as `bound`; `at_least_seconds`, if compute, all exchanges within slices
      and all between them overlap; `waiting_seconds` for exchanges that nothing hides; `exposed_seconds`, if the
      program waits wherever its schedule says so.
    """
    terms, between, waiting = {"compute": compiled_flops / chip.peak_flops}, 0.0, 0.0
    for row in collectives:
        seconds = row["received_bytes"] / (chip.dcn_bandwidth if row["crosses_slices"] else chip.ici_bandwidth)
        waiting += 0.0 if row["hidden"] else seconds
        if row["crosses_slices"]:
            between += seconds
        else:
            terms[row["kind"]] = terms.get(row["kind"], 0.0) + seconds
    compute, *exchanges = terms.values()
    terms["between slices"] = between
    return {"seconds": terms, "bound": max(terms, key=terms.__getitem__),
            "at_least_seconds": max(compute, sum(exchanges), between), "exposed_seconds": compute + waiting,
            "waiting_seconds": waiting}
