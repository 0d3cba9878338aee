import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import qwix
from flax import nnx

from srum_jax.models.bagel.architecture import BAGEL
from srum_jax.models.bagel.config import RELEASED
from srum_jax.models.bagel.model import Bagel
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.linear import Linear
from srum_jax.models.layers.logical_axes import dotted, shapes_by_name
from srum_jax.models.layers.low_rank import LowRankLinear
from srum_jax.models.layers.parameter import abstract_model
from srum_jax.models.layers.quantized import quantizable, quantize
from srum_jax.training.config import LoraConfig, ModelSource
from srum_jax.training.lora import attach_factors, initial_factors, mapped
from srum_jax.training.state import load_model
from tests.models.packs import mesh_of, random_batch, small_config
from tests.training.runs import batches, small_run

CONFIG = small_config(vit=None)
EVERYWHERE = LoraConfig(rank=4, alpha=8.0, targets=("*",))


def velocity(graphdef, *states, dtype="float32", remat="full", scan_layers=True):
    compute = ComputeConfig(dtype=dtype, remat=remat, scan_layers=scan_layers)
    batch = random_batch(CONFIG, rows=2)
    noisy = jax.random.normal(jax.random.key(5), (2, 16, CONFIG.latent_values))

    def run(states):
        return nnx.merge(graphdef, *states)(batch, noisy, jnp.full((2, 16), 0.4), compute).velocity

    return np.asarray(jax.jit(run)(states))


@pytest.fixture(scope="module")
def base():
    model = Bagel(CONFIG, rngs=nnx.Rngs(0), parts=("vit",))
    model.llm2vae.kernel.set_value(0.1 * jax.random.normal(jax.random.key(1), model.llm2vae.kernel[...].shape))
    return nnx.split(model)


def factored(base, config=EVERYWHERE):
    """The model with its factors as a run starts them."""
    graphdef, factors = attach_factors(*base, config, BAGEL)
    return graphdef, initial_factors(factors, 0, mesh_of(1, 1, 1, 1), BAGEL)


def filled(factors, seed=7):
    """The same factors with a `b` that is not zero."""
    flat = nnx.to_flat_state(factors)
    keys = jax.random.split(jax.random.key(seed), len(flat))
    return nnx.from_flat_state([
        (path, variable.replace(0.1 * jax.random.normal(key, variable.get_value().shape))
         if path[-1] == "lora_b" else variable) for key, (path, variable) in zip(keys, flat, strict=True)])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_before_the_first_update_the_model_is_its_base_bit_for_bit(base, dtype):
    graphdef, factors = factored(base)
    expected = velocity(*base, dtype=dtype)
    np.testing.assert_array_equal(velocity(graphdef, factors, base[1], dtype=dtype), expected)
    assert not np.array_equal(velocity(graphdef, filled(factors), base[1], dtype=dtype), expected)


@pytest.mark.slow
def test_the_factored_model_is_the_one_with_merged_kernels_and_every_map_takes_part(base):
    graphdef, start = factored(base, dataclasses.replace(EVERYWHERE, alpha=6.0))
    factors = filled(start)
    values = {dotted(path): variable[...] for path, variable in nnx.to_flat_state(factors)}

    def merged(name, variable):
        path = name.removesuffix(".kernel")
        if path not in BAGEL.linear_maps.values() or name == path:
            return variable
        return variable.replace(variable[...] + 1.5 * values[f"{path}.lora_a"] @ values[f"{path}.lora_b"])

    kernels = nnx.from_flat_state([(path, merged(dotted(path), variable))
                                   for path, variable in nnx.to_flat_state(base[1])])
    expected = velocity(base[0], kernels)
    found = velocity(graphdef, factors, base[1], remat="none", scan_layers=False)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("stack", [(), (3,)])
def test_one_map_is_that_of_its_merged_kernel(stack):
    rng = np.random.default_rng(0)
    linear = Linear(6, 5, rngs=nnx.Rngs(0), axes=("embed_in", "heads_out"), stack=stack)
    low = LowRankLinear(linear, rank=2, scale=1.5)
    a, b, x = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((*stack, 6, 2), (*stack, 2, 5), (4, 6)))
    assert (low.lora_a.get_value().shape, low.lora_b.get_value().shape) == (a.shape, b.shape)
    prefix = ("layers",) * len(stack)
    assert low.lora_a.get_metadata()["axes"] == (*prefix, "embed_in", "lora_rank")
    assert low.lora_b.get_metadata()["axes"] == (*prefix, "lora_rank", "heads_out")
    graphdef, factors, rest = nnx.split(low, nnx.LoRAParam, ...)
    factors["lora_a"], factors["lora_b"] = factors["lora_a"].replace(a), factors["lora_b"].replace(b)
    expected = jnp.einsum("ti,...io->...to", x, linear.kernel[...] + 1.5 * a @ b) + linear.bias[...][..., None, :]

    def one(factors, rest):
        return nnx.merge(graphdef, factors, rest)(x)

    found = jax.vmap(one)(factors, rest) if stack else one(factors, rest)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_the_maps_that_can_be_named_are_those_that_only_generation_uses(base):
    found = {dotted(path) for path, module in nnx.iter_modules(nnx.merge(*base)) if isinstance(module, Linear)}
    assert set(BAGEL.linear_maps.values()) == {path for path in found if ".und." not in path and path != "llm.lm_head"}


@pytest.mark.slow
def test_factors_start_from_the_seed_whatever_the_mesh_and_the_other_targets(base):
    def start(config, seed, *mesh):
        _, factors = attach_factors(*base, config, BAGEL)
        return {dotted(path): variable[...] for path, variable in
                nnx.to_flat_state(initial_factors(factors, seed, mesh_of(*mesh), BAGEL))}

    alone = start(EVERYWHERE, 3, 1, 1, 1, 1)
    fewer = dataclasses.replace(EVERYWHERE, targets=("up",))
    for other in (start(EVERYWHERE, 3, 1, 2, 2, 2), start(fewer, 3, 1, 1, 1, 1)):
        for name, values in other.items():
            np.testing.assert_array_equal(values, alone[name], err_msg=name)
    a = np.asarray(alone["llm.layers.gen.down.lora_a"])
    assert a.shape == (3, 128, 4) and 0.95 * 128**-0.5 < np.abs(a).max() <= 128**-0.5
    assert len(np.unique(a)) > 0.99 * a.size, "layers ought to differ"
    assert not np.array_equal(alone["llm.layers.gen.gate.lora_a"], alone["llm.layers.gen.up.lora_a"])
    assert not np.array_equal(a, start(EVERYWHERE, 4, 1, 1, 1, 1)["llm.layers.gen.down.lora_a"])
    assert all(not values.any() for name, values in alone.items() if name.endswith("lora_b"))


@pytest.fixture(scope="module")
def alone():
    """Four steps on one device: the run, its metrics, and its start."""
    run = small_run(lora=EVERYWHERE)
    before, frozen = jax.device_get((run.state.parameters, run.frozen))
    return run, run.train(*batches(4)), before, frozen


@pytest.mark.slow
def test_only_factors_are_trained_and_have_moments(alone):
    run, metrics, before, frozen = alone
    names = set(shapes_by_name(run.state.parameters))
    assert names == {f"{path}.{factor}" for path in BAGEL.linear_maps.values() for factor in ("lora_a", "lora_b")}
    for field in ("mu", "nu"):
        [(_, moments)] = optax.tree_utils.tree_get_all_with_path(run.state.optimizer, field)
        assert set(shapes_by_name(moments)) == names
    jax.tree.map(np.testing.assert_array_equal, frozen, jax.device_get(run.frozen))
    for (path, old), (_, new) in zip(*map(nnx.to_flat_state, (before, run.state.parameters)), strict=True):
        assert not np.array_equal(old[...], new[...]), f"{dotted(path)} has not moved"
    assert metrics[0].loss == small_run().train(batches(1)[0])[0].loss, "the first loss is that of the base"


@pytest.mark.slow
@pytest.mark.parametrize("shape", [
    pytest.param((2, 4, 1, 1), id="data-fsdp", marks=pytest.mark.nightly),
    pytest.param((1, 2, 2, 2), id="fsdp-seq-tensor")])
def test_training_factors_on_many_devices_equals_training_them_on_one(alone, shape):
    run = small_run(*shape, lora=EVERYWHERE)
    before = jax.tree.map(lambda leaf: leaf.sharding, run.state)
    for found, expected in zip(run.train(*batches(4)), alone[1], strict=True):
        np.testing.assert_allclose(found.loss, expected.loss, rtol=2e-6)
        np.testing.assert_allclose(found.gradient_norm, expected.gradient_norm, rtol=1e-4)
    for found, expected in zip(*map(jax.tree.leaves, (run.state.parameters, alone[0].state.parameters)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=5e-5)
    assert jax.tree.map(lambda leaf: leaf.sharding, run.state) == before
    a = run.state.parameters.llm.layers.gen.gate.lora_a[...]
    assert not a.sharding.is_fully_replicated


def test_factors_learn_beside_integers_as_beside_the_floats_that_these_stand_for(base):
    graphdef, factors = factored(base)
    factors, names = filled(factors), quantizable(base[1])
    batch, compute = random_batch(CONFIG, rows=2), ComputeConfig(dtype="float32", remat="full")
    noisy = jax.random.normal(jax.random.key(5), (2, 16, CONFIG.latent_values))

    def gradient(of_matrix):
        frozen = nnx.from_flat_state([
            (path, variable.replace(of_matrix(quantize(variable.get_value(), "int8")))
             if dotted(path) in names else variable) for path, variable in nnx.to_flat_state(base[1])])

        def loss(factors, frozen):
            model = nnx.merge(graphdef, factors, frozen)
            return (model(batch, noisy, jnp.full((2, 16), 0.4), compute).velocity ** 2).mean()

        return jax.jit(jax.grad(loss))(factors, frozen)

    beside_integers, beside_floats = gradient(lambda matrix: matrix), gradient(qwix.dequantize)
    for (path, found), (_, expected) in zip(*map(nnx.to_flat_state, (beside_integers, beside_floats)), strict=True):
        scale = float(jnp.abs(expected[...]).max())
        assert scale > 0, dotted(path)
        np.testing.assert_allclose(found[...], expected[...], rtol=0, atol=1e-4 * scale, err_msg=dotted(path))


def test_loaded_weights_stay_in_the_compute_dtype_and_factors_are_float32(tiny_base):
    source = ModelSource(str(tiny_base), timestep_shift=4.0, lora=LoraConfig(rank=2))
    model = load_model(source, mesh_of(1, 2, 1, 1), "bfloat16", seed=1)
    assert {leaf.dtype for leaf in jax.tree.leaves(model.trained)} == {jnp.dtype("float32")}
    assert {leaf.dtype for leaf in jax.tree.leaves(model.frozen)} == {jnp.dtype("bfloat16")}
    assert set(shapes_by_name(model.trained)) == {
        f"llm.layers.gen.{name}.lora_{factor}" for factor in "ab"
        for name in ("query", "key", "value", "out", "gate", "up", "down")}
    assert nnx.merge(model.graphdef, model.trained, model.frozen).config.timestep_shift == 4.0


def test_the_released_model_has_the_documented_number_of_factors_and_fixed_values():
    graphdef, state = abstract_model(Bagel, RELEASED, parts=("vae",))
    _, factors = attach_factors(graphdef, state, LoraConfig(rank=32), BAGEL)
    count = [sum(map(math.prod, shapes_by_name(part).values())) for part in (factors, state)]
    assert count == [32 * 2_523_136, 14_253_984_483]


def test_factors_can_be_attached_to_a_model_of_shapes_alone():
    _, factors = attach_factors(*abstract_model(Bagel, small_config()), LoraConfig(rank=2, targets=("gate",)), BAGEL)
    assert shapes_by_name(factors) == {"llm.layers.gen.gate.lora_a": (3, 64, 2),
                                       "llm.layers.gen.gate.lora_b": (3, 2, 128)}


@pytest.mark.parametrize(("fields", "message"), [
    ({"rank": 0}, r"model\.lora\.rank: expected a positive number, found 0"),
    ({"alpha": 0.0}, r"model\.lora\.alpha: expected a positive number"),
    ({"alpha": float("nan")}, r"model\.lora\.alpha"),
    ({"targets": ("query", "gates")}, r"'gates' names no linear map .*the nearest are gate.*There are: query, key"),
    ({"targets": ("time_embed.fc1",)}, r"the nearest are time_embedder\.fc1, time_embedder\.fc2"),
    ({"targets": ("llm.lm_head",)}, r"'llm\.lm_head' names no linear map"),
    ({"targets": ()}, r"an empty list"),
])
def test_settings_that_name_nothing_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        mapped(LoraConfig(**fields), BAGEL)


def test_patterns_select_maps():
    assert mapped(LoraConfig(targets=("time_embedder.*", "o*")), BAGEL) == ("llm.layers.gen.out", "time_embedder.fc1",
                                                                         "time_embedder.fc2")
