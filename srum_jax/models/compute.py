"""How a model is computed, as opposed to what: precision, attention route, rematerialisation."""

import dataclasses

import jax
import jax.numpy as jnp

from srum_jax.models.layers.splash_attention import CHECKPOINT_NAME

ATTENTION_NAMES = ("dense", "chunked", "splash")

# What the backward pass may keep of a layer's forward pass. "attention" keeps the attended values, the one part
# that is dear to compute and cheap to store.
REMAT_POLICIES = {
    "none": None,
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "attention": jax.checkpoint_policies.save_only_these_names(CHECKPOINT_NAME),
}


@dataclasses.dataclass(frozen=True)
class ComputeConfig:
    """Choices that change speed and memory, and numbers only by rounding."""

    dtype: str = "float32"  # of activations and of weights in matmuls; masters stay float32
    attention: str = "dense"  # dense: everywhere; chunked: everywhere, little memory; splash: TPU kernel
    attention_block: int = 512  # tokens per block of the chunked and splash routes
    remat: str = "full"
    scan_layers: bool = True  # False unrolls the layers, for debugging

    def __post_init__(self):
        _one_of("compute.dtype", self.dtype, ("float32", "bfloat16"))
        _one_of("compute.attention", self.attention, ATTENTION_NAMES)
        _one_of("compute.remat", self.remat, tuple(REMAT_POLICIES))
        if self.attention_block < 1:
            raise ValueError(f"compute.attention_block: expected a positive number, found {self.attention_block}.")

    @property
    def compute_dtype(self) -> jnp.dtype:
        """The dtype as JAX knows it."""
        return jnp.dtype(self.dtype)


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}: expected one of {', '.join(allowed)}; found {value!r}.")
