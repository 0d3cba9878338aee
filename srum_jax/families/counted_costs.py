"""Costs of programs, counted over what JAX traces of them, and of writing text by a decoder, by formula."""

import math
from typing import Any

import jax

from srum_jax.families.costs import Cost
from srum_jax.models.decoder_config import DecoderConfig

WEIGHT_BYTES = 2  # of a value, as generation keeps them


def decode_cost(llm: DecoderConfig, context: int, tokens: int) -> Cost:
    """So many tokens, one after the other, on top of a context."""
    kv_width, mean_context = llm.num_kv_heads * llm.head_dim, context + (tokens + 1) / 2
    layer = 2 * llm.hidden_size * (llm.hidden_size + kv_width) + 3 * llm.hidden_size * llm.intermediate_size
    weights = llm.num_layers * layer + llm.hidden_size * llm.vocab_size
    return Cost(
        flops=2 * weights + 4 * mean_context * llm.hidden_size * llm.num_layers,
        activation_bytes=WEIGHT_BYTES * llm.num_layers * 2 * mean_context * kv_width,
        weight_bytes=WEIGHT_BYTES * weights, passes=1, summed_values=2 * llm.num_layers * llm.hidden_size,
    ) * tokens


def products(jaxpr: Any) -> tuple[float, float]:
    """FLOPs of all matrix products and convolutions of a traced function, and the bytes of their activations."""
    flops = num_bytes = 0.0
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        out = equation.outvars[0].aval
        if equation.primitive.name == "dot_general":
            left, right = (variable.aval for variable in equation.invars)
            (contracted, _), (batch, _) = equation.params["dimension_numbers"]
            flops += 2.0 * out.size * math.prod(left.shape[axis] for axis in contracted)
            # Between activations there are rows on both sides; a weight has none.
            num_bytes += sum(x.size * x.dtype.itemsize for x in ([left, right, out] if batch else [left, out]))
        elif equation.primitive.name == "conv_general_dilated":
            left, kernel = (variable.aval for variable in equation.invars)
            outputs = kernel.shape[equation.params["dimension_numbers"].rhs_spec[0]]
            flops += 2.0 * out.size * kernel.size / outputs
            num_bytes += sum(x.size * x.dtype.itemsize for x in (left, out))
        times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_jaxpr):
            if _is_jaxpr(inner):
                found = products(inner)
                flops, num_bytes = flops + times * found[0], num_bytes + times * found[1]
    return flops, num_bytes


def _is_jaxpr(value: object) -> bool:
    return hasattr(getattr(value, "jaxpr", value), "eqns")
