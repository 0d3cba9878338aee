import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec as P

from srum_jax.errors import BadInput
from srum_jax.families.bagel.forward import BagelForward
from srum_jax.models.bagel.config import RELEASED, LanguageConfig
from srum_jax.models.bagel.model import Bagel
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.logical_axes import check_layout, named_shardings, partition_spec
from srum_jax.models.layers.parameter import abstract_model
from srum_jax.models.layers.sharding import RULES
from srum_jax.objectives.config import RewardWeighted
from srum_jax.training.step import share_of_loss
from tests.models.packs import mesh_of, on_devices, random_batch, small_config


@pytest.mark.slow
def test_the_released_model_has_the_published_number_of_values_and_is_never_materialised():
    _, state = abstract_model(Bagel, RELEASED)
    sizes = {"vae": 0, "bagel": 0}
    for path, variable in nnx.to_flat_state(state):
        assert isinstance(variable.get_value(), jax.ShapeDtypeStruct)
        sizes["vae" if path[0] == "vae" else "bagel"] += int(np.prod(variable.get_value().shape))
    assert sizes == {"bagel": 14_607_260_128, "vae": 83_819_683}


def test_every_parameter_of_the_released_model_has_a_rule_and_large_ones_are_split():
    mesh = mesh_of(1, 8, 1, 1)
    _, state = abstract_model(Bagel, RELEASED)
    shardings = dict(nnx.to_flat_state(named_shardings(state, mesh, RULES)))
    replicated = 0
    for path, variable in nnx.to_flat_state(state):
        assert len(variable.get_metadata()["axes"]) == len(variable.get_value().shape), path
        if shardings[path].get_value().is_fully_replicated:
            replicated += int(np.prod(variable.get_value().shape))
    assert replicated < 0.05 * 14_607_260_128
    query = shardings[("llm", "layers", "gen", "query", "kernel")].get_value()
    assert query.spec == P(None, ("fsdp", "seq"), ("tensor",))


def test_a_mesh_axis_claimed_twice_is_an_error_that_names_both_dimensions():
    with pytest.raises(BadInput, match="'a' and 'b' both claim mesh axis 'fsdp'"):
        partition_spec("x.kernel", ("a", "b"), {"a": ("fsdp",), "b": ("tensor", "fsdp")})


def test_a_dimension_without_rule_is_an_error_that_names_it():
    with pytest.raises(BadInput, match=r"x\.kernel: dimension 'b' has no sharding rule"):
        partition_spec("x.kernel", ("a", "b"), {"a": ()})


def test_a_dimension_that_does_not_divide_is_an_error():
    _, state = abstract_model(Bagel, small_config(llm=LanguageConfig(64, 60, 128, 2, 4, 2, 1e-6, 1e4, 64)))
    with pytest.raises(BadInput, match="cannot be split 8 ways"):
        named_shardings(state, mesh_of(1, 8, 1, 1), RULES)


def test_layouts_known_to_be_slow_are_refused_and_good_ones_are_not():
    _, state = abstract_model(Bagel, RELEASED)

    class Mesh64:  # only the shape of a mesh matters here, and no machine has 64 devices at hand
        def __init__(self, **shape):
            self.shape, self.size = shape, int(np.prod(list(shape.values())))

    import srum_jax.models.layers.logical_axes as logical_axes

    def named(mesh, spec):
        return dataclasses.make_dataclass("S", ["spec"])(spec)

    original, logical_axes.NamedSharding = logical_axes.NamedSharding, named
    try:
        check_layout(state, Mesh64(data=2, fsdp=32, seq=1, tensor=1), RULES)
        with pytest.raises(BadInput, match="covers all 64 chips"):
            check_layout(state, Mesh64(data=1, fsdp=64, seq=1, tensor=1), RULES)
        with pytest.raises(BadInput, match="56 rows per shard"):
            check_layout(state, Mesh64(data=2, fsdp=64, seq=1, tensor=1), RULES)
    finally:
        logical_axes.NamedSharding = original


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 2, 2, 2), *(
    pytest.param(shape, marks=pytest.mark.nightly) for shape in ((2, 4, 1, 1), (2, 2, 2, 1)))])
def test_loss_and_gradients_on_eight_devices_equal_those_on_one(shape):
    """By day not over `data`: whole steps are (`training/test_step.py`)."""
    config = small_config()
    model = Bagel(config, rngs=nnx.Rngs(0))
    model.llm2vae.kernel.set_value(0.1 * jax.random.normal(jax.random.key(1), model.llm2vae.kernel[...].shape))
    graphdef, state = nnx.split(model)
    batch = random_batch(config)
    forward = BagelForward(config, ComputeConfig())

    def loss(state, batch, key):
        return share_of_loss(
            nnx.merge(graphdef, state), forward, RewardWeighted(), batch, forward.draws(key, batch))[0]

    key = jax.random.key(7)
    alone = jax.jit(jax.value_and_grad(loss))(state, batch, key)
    mesh = mesh_of(*shape)
    shardings = named_shardings(state, mesh, RULES)
    with jax.set_mesh(mesh):
        spread = jax.jit(jax.value_and_grad(loss), out_shardings=(None, shardings))(
            jax.device_put(state, shardings), on_devices(batch, mesh), key
        )
    split = [v for v in jax.tree.leaves(spread[1]) if not v.sharding.is_fully_replicated]
    assert len(split) > 10, "the gradients ought to be sharded"
    np.testing.assert_allclose(spread[0], alone[0], rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), spread[1], alone[1])


@pytest.mark.slow
def test_bfloat16_stays_close_to_float32():
    config = small_config()
    model = Bagel(config, rngs=nnx.Rngs(0))
    model.llm2vae.kernel.set_value(0.1 * jax.random.normal(jax.random.key(1), model.llm2vae.kernel[...].shape))
    batch = random_batch(config)
    noise = jax.random.normal(jax.random.key(2), (8, 16, config.latent_values))
    time = jnp.full((8, 16), 0.3)
    exact, rounded = (
        model(batch, noise, time, ComputeConfig(dtype=dtype)).velocity.astype(jnp.float32)
        for dtype in ("float32", "bfloat16")
    )
    drift = jnp.linalg.norm(exact - rounded) / jnp.linalg.norm(exact)
    assert 1e-4 < drift < 3e-2
