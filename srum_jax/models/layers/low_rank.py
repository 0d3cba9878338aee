"""A linear map that is trained through a low-rank difference (LoRA, arXiv 2106.09685, section 4.1).

The difference acts on activations, `x @ kernel + scale * ((x @ a) @ b)`, and is never added to the kernel. For T tokens
that is 2 T r (in + out) more FLOPs and an array [T, r]. A loss over `kernel + scale * a @ b` would instead make an
array [in, out] and its gradient, 2 T in out FLOPs a map: what LoRA is there to avoid.

r rank
"""

import jax
import jax.numpy as jnp
from flax import nnx

from srum_jax.models.layers.linear import Linear

FACTOR_A, FACTOR_B = "lora_a", "lora_b"


class LowRankLinear(Linear):
    """Takes a `Linear`'s place in a model; its kernel and bias keep their paths, so weights load as before."""

    def __init__(self, base: Linear, rank: int, scale: float):
        """Shares the weights of a map. The factors are shapes alone until somebody fills them.

        Args:
          base: the map; its kernel may be stacked, [L, in, out].
          rank: r.
          scale: of the difference.
        """
        self.kernel, self.bias, self.scale = base.kernel, base.bias, scale
        *stack, in_features, out_features = base.kernel.get_value().shape
        *stack_axes, in_axis, out_axis = base.kernel.get_metadata()["axes"]

        def factor(shape: tuple[int, int], axes: tuple[str, str]) -> nnx.LoRAParam:
            return nnx.LoRAParam(jax.ShapeDtypeStruct((*stack, *shape), jnp.float32), axes=(*stack_axes, *axes))

        self.lora_a = factor((in_features, rank), (in_axis, "lora_rank"))
        self.lora_b = factor((rank, out_features), ("lora_rank", out_axis))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [..., in] to [..., out]."""
        # Scaled in float32, as at the merge: alpha / rank need not be a number of the compute dtype.
        low = jnp.einsum("...i,ir->...r", x, self.lora_a[...].astype(x.dtype), preferred_element_type=jnp.float32)
        low = (self.scale * low).astype(x.dtype)
        return super().__call__(x) + jnp.einsum("...r,ro->...o", low, self.lora_b[...].astype(x.dtype))
