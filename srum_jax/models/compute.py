"""How a model is computed, as opposed to what: mesh axes, precision, attention route, rematerialisation.

Imports no array library: `--set` is answered before one is loaded.
"""

import dataclasses

import numpy as np

from srum_jax.errors import check

MESH_AXES = ("data", "fsdp", "seq", "tensor")  # that layouts may name
ATTENTION_NAMES = ("auto", "dense", "chunked", "splash", "cudnn")
REMAT_NAMES = ("none", "full", "dots", "attention")  # see `layer_stack.REMAT_POLICIES`
QUANTIZED_DTYPES = ("int8", "int4")  # that matrices of layers may be kept in; see `layers.quantized`


@dataclasses.dataclass(frozen=True)
class ComputeConfig:
    """Choices that change speed and memory, and numbers only by rounding."""

    dtype: str = "float32"  # of activations and of weights in matmuls; masters stay float32
    # dense: everywhere; chunked: everywhere, little memory; splash: kernel of TPUs; cudnn: of NVIDIA GPUs; auto: the
    # fastest that the devices have
    attention: str = "dense"
    attention_block: int = 512  # tokens per block of the chunked and splash routes
    remat: str = "full"  # of a layer the backward pass keeps: none: all; full: nothing; dots, attention: these results
    scan_layers: bool = True  # False unrolls the layers, for debugging

    def __post_init__(self):
        names = {"dtype": ("float32", "bfloat16"), "attention": ATTENTION_NAMES, "remat": REMAT_NAMES}
        for field, allowed in names.items():
            value = getattr(self, field)
            check(f"compute.{field}", value in allowed, f"one of {', '.join(allowed)}", value)
        check("compute.attention_block", self.attention_block >= 1, "a positive number", self.attention_block)

    @property
    def compute_dtype(self) -> np.dtype:
        """The dtype; JAX has told NumPy of bfloat16."""
        return np.dtype(self.dtype)
