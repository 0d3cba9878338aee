"""Which way of computing attention the devices at hand have."""

import dataclasses

import jax
import jax.numpy as jnp

from srum_jax.errors import BadInput
from srum_jax.models.layers.attention import make_attention
from srum_jax.models.layers.token_stream import causal_tokens


@dataclasses.dataclass(frozen=True)
class AttentionRoute:
    """A route of `make_attention`, and why `auto` took it where a faster one was to be expected."""

    name: str
    because: str = ""

    def __str__(self) -> str:
        return f"attention by {self.name}" + (f" ({self.because})" if self.because else "")


def attention_route(asked: str, device: jax.Device, dtype: str, *, setting: str) -> AttentionRoute:
    """The route that is meant by a setting.

    "auto" is splash on TPUs, and cudnn on NVIDIA GPUs if computing in bfloat16 and if a few tokens come out of the
    kernel as they should, forward and backward; else chunked.

    Args:
      asked: one of `ATTENTION_NAMES`.
      device: one of those that compute, which are all alike; for TPUs it may be one that is only described.
      dtype: of activations.
      setting: where it was asked, for messages.

    Raises:
      BadInput: a kernel that these devices do not have, or that does not compute in this precision.
    """
    if asked == "splash" and device.platform != "tpu":
        raise BadInput(f"{setting}: 'splash' is a TPU kernel, found devices of platform {device.platform}; use auto.")
    if asked == "cudnn" or (asked == "auto" and device.platform == "gpu"):
        problem = _problem_of_cudnn(device, dtype)
        if problem and asked == "cudnn":
            raise BadInput(f"{setting}: 'cudnn' cannot be used: {problem}; use auto.")
        return AttentionRoute("chunked", f"not cudnn: {problem}") if problem else AttentionRoute("cudnn")
    if asked == "auto":
        return AttentionRoute("splash" if device.platform == "tpu" else "chunked")
    return AttentionRoute(asked)


def _problem_of_cudnn(device: jax.Device, dtype: str) -> str | None:
    """Why its kernel cannot be used, None if it can: the only sure way to know is to run it."""
    if device.platform != "gpu":
        return f"it is a kernel of NVIDIA GPUs, found devices of platform {device.platform}"
    if dtype != "bfloat16":
        return f"it computes in bfloat16, asked for is {dtype}"
    if device.process_index != jax.process_index():
        device = jax.local_devices()[0]
    try:
        with jax.default_device(device):
            error = _error_of("cudnn")
    except (RuntimeError, ValueError) as failure:  # no cuDNN, too old a card, a card of another maker
        return " ".join(str(failure).split("\n")[0].split()).rstrip(".") or type(failure).__name__
    return None if error < _TOLERANCE else f"its values are off by {error:.2g} of the largest"


_TOLERANCE = 0.05  # rounding of bfloat16 is ten times less


def _error_of(route: str) -> float:
    """Largest difference from dense attention, of values and gradients of two rows, relative to the largest of each."""
    tokens = causal_tokens(jnp.arange(100)[None] < jnp.array([[100], [60]]))
    keys = jax.random.split(jax.random.key(0), 3)
    inputs = [jax.random.normal(key, (2, 100, heads, 64), jnp.bfloat16)
              for key, heads in zip(keys, (4, 2, 2), strict=True)]

    def of(route: str) -> list[jax.Array]:
        def loss(inputs: list[jax.Array]) -> tuple[jax.Array, jax.Array]:
            out = make_attention(tokens, tokens, route, 128)(*inputs).astype(jnp.float32)
            return jnp.sum(jnp.sin(out) * tokens.real[..., None, None]), out

        (_, out), gradient = jax.value_and_grad(loss, has_aux=True)(inputs)
        return [x.astype(jnp.float32) for x in (out * tokens.real[..., None, None], *gradient)]

    @jax.jit
    def error() -> jax.Array:
        pairs = zip(of(route), of("dense"), strict=True)
        return jnp.max(jnp.stack([jnp.max(jnp.abs(x - y)) / jnp.max(jnp.abs(y)) for x, y in pairs]))

    found = float(error())
    return found if found == found else float("inf")
