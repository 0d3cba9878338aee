"""Integer weights: how far they may be from the floats, what a product with them is, and where they lie."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import qwix
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from srum_jax.models.bagel.model import Bagel
from srum_jax.models.layers.linear import Linear
from srum_jax.models.layers.parameter import abstract_model
from srum_jax.models.layers.quantized import (
    cast_floats,
    product,
    quantizable,
    quantize,
    quantized_struct,
    scale_sharding,
)
from tests.models.packs import mesh_of, small_config

DTYPES = ("int8", "int4")
LARGEST = {"int8": 127.5, "int4": 7.5}  # what the largest number of a scale is, in steps


@pytest.fixture
def matrix():
    values = np.random.default_rng(0).standard_normal((3, 64, 48)).astype(np.float32)
    values[1, :, 5] = 0.0
    values[2, 7, 3] = 40.0  # an outlier costs its own column alone
    return values


@pytest.mark.parametrize(("dtype", "groups"), [("int8", 1), ("int4", 2)])
def test_every_number_is_the_nearest_step_of_its_scale(matrix, dtype, groups):
    found = quantize(matrix, dtype)
    assert (found.qvalue.dtype, found.scale.dtype) == (jnp.dtype(dtype), jnp.float32)
    assert (found.qvalue.shape, found.scale.shape) == (matrix.shape, (3, groups, 48))
    scale = np.repeat(found.scale, 64 // groups, axis=1)
    assert np.all(np.abs(np.asarray(qwix.dequantize(found)) - matrix) <= 0.5001 * scale)
    largest = np.abs(matrix.reshape(3, groups, -1, 48)).max(axis=2)
    np.testing.assert_allclose(found.scale, np.where(largest == 0, 1, largest / LARGEST[dtype]), rtol=1e-6)
    assert not np.any(np.asarray(found.qvalue[1, :, 5]).astype(int))


def test_layers_are_quantized_as_they_are_alone(matrix):
    together = quantize(matrix, "int8")
    for layer in range(3):
        alone = quantize(matrix[layer], "int8")
        np.testing.assert_array_equal(together.qvalue[layer], alone.qvalue)
        np.testing.assert_array_equal(together.scale[layer], alone.scale)


def test_rows_that_no_group_divides_share_one_scale():
    assert quantize(np.ones((40, 8), np.float32), "int4").scale.shape == (1, 8)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_product_is_off_by_half_a_step_for_each_input_at_most(matrix, dtype):
    x = np.random.default_rng(1).standard_normal((5, 64)).astype(np.float32)
    kernel = quantize(matrix[0], dtype)
    exact = x.astype(np.float64) @ matrix[0].astype(np.float64)
    steps = np.repeat(kernel.scale, 64 // kernel.scale.shape[0], axis=0)
    found = np.asarray(product(x, kernel))
    assert np.all(np.abs(found - exact) <= np.abs(x) @ (steps / 2) * 1.001)
    np.testing.assert_allclose(found, x @ np.asarray(qwix.dequantize(kernel)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_product_has_the_dtype_of_its_input_and_a_gradient_for_it(matrix, dtype):
    x, kernel = jnp.ones((5, 64), jnp.bfloat16), quantize(matrix[0], dtype)
    assert product(x, kernel).dtype == jnp.bfloat16
    gradient = jax.grad(lambda x: product(x, kernel).astype(jnp.float32).sum())(x)
    sums = np.asarray(qwix.dequantize(kernel)).sum(axis=1)
    np.testing.assert_allclose(gradient[0].astype(jnp.float32), sums, rtol=2e-2, atol=0.1)


def test_a_linear_map_takes_integers_for_its_kernel():
    linear = Linear(64, 48, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(1), (2, 3, 64))
    before = linear(x)
    linear.kernel.set_value(quantize(linear.kernel.get_value(), "int8"))
    assert 0 < jnp.linalg.norm(linear(x) - before) < 0.01 * jnp.linalg.norm(before)


def test_a_cast_changes_floats_and_leaves_what_is_quantized(matrix):
    kernel = quantize(matrix, "int8")
    cast = cast_floats({"kernel": kernel, "bias": jnp.ones(3)}, jnp.bfloat16)
    assert cast["kernel"] is kernel and cast["bias"].dtype == jnp.bfloat16


def test_matrices_of_layers_are_quantized_and_nothing_else():
    _, state = abstract_model(Bagel, small_config())
    maps = ("query", "key", "value", "out", "gate", "up", "down")
    towers = {name for name in quantizable(state) if name.startswith("vit.layers.") and name.endswith(".kernel")}
    assert quantizable(state) == {f"llm.layers.{expert}.{name}.kernel"
                                  for expert in ("und", "gen") for name in maps} | towers
    assert len(towers) == 6


@pytest.mark.parametrize(("rows", "expected"), [
    (256, PartitionSpec(None, ("fsdp", "seq"), "tensor")),
    (64, PartitionSpec(None, None, "tensor")),  # two groups, which four shards of rows cannot share
])
def test_scales_lie_with_their_rows_where_the_mesh_divides_them(rows, expected):
    sharding = NamedSharding(mesh_of(1, 2, 2, 2), PartitionSpec(None, ("fsdp", "seq"), "tensor"))
    assert scale_sharding(sharding, (3, rows, 48), "int4").spec == expected
    assert scale_sharding(sharding, (3, rows, 48), "int8").spec == PartitionSpec(None, None, "tensor")


@pytest.mark.parametrize("dtype", DTYPES)
def test_shapes_without_values_are_those_of_values(matrix, dtype):
    sharding = NamedSharding(mesh_of(1, 2, 1, 1), PartitionSpec(None, "fsdp"))
    like = quantized_struct(jax.ShapeDtypeStruct(matrix.shape, jnp.bfloat16, sharding=sharding), dtype)
    real = quantize(matrix, dtype)
    assert jax.tree.structure(like) == jax.tree.structure(real)
    assert [(x.shape, x.dtype) for x in jax.tree.leaves(like)] == [(x.shape, x.dtype) for x in jax.tree.leaves(real)]
