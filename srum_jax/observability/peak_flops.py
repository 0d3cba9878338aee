"""What devices can do at most, to say what share of it a run uses."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jax

# Dense bfloat16 peak of one JAX device, FLOP/s. A device is a chip; of the TPU7x, one of a chip's two cores.
PEAK_FLOPS = {
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
    "TPU7x": 1155e12,
    # NVIDIA's data sheets; those that give the double figure of sparse products are halved. Cards for games and
    # workstations: architecture white papers, bfloat16 products summed in float32.
    "NVIDIA A10": 125e12,
    "NVIDIA A10G": 70e12,
    "NVIDIA A100-PCIE-40GB": 312e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100 80GB PCIe": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA B200": 2250e12,
    "NVIDIA GH200 480GB": 989e12,
    "NVIDIA GeForce RTX 3090": 71e12,
    "NVIDIA GeForce RTX 4090": 165e12,
    "NVIDIA GeForce RTX 5090": 209e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H100 NVL": 835e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H200": 989e12,
    "NVIDIA H200 NVL": 835e12,
    "NVIDIA L4": 121e12,
    "NVIDIA L40S": 362e12,
    "NVIDIA RTX A6000": 155e12,
}


def peak_flops(devices: "list[jax.Device]") -> float | None:
    """Peak of all devices together, FLOP/s; None where the kind is not known."""
    peak = PEAK_FLOPS.get(devices[0].device_kind)
    return None if peak is None else peak * len(devices)
