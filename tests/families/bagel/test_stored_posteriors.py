"""Training on posteriors that were computed before, against encoding in the step."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from srum_jax.families.bagel.forward import BagelForward, encode
from srum_jax.models.bagel.architecture import BAGEL
from srum_jax.models.bagel.model import Bagel
from srum_jax.models.compute import ComputeConfig
from srum_jax.objectives.config import RewardWeighted
from srum_jax.training.state import split_trainable
from srum_jax.training.step import share_of_loss
from tests.models.packs import on_devices, random_batch, small_config
from tests.training.runs import small_run

CONFIG = small_config(vit=None)
FORWARD = BagelForward(CONFIG, ComputeConfig(remat="none"))


@pytest.fixture(scope="module")
def model() -> Bagel:
    model = Bagel(CONFIG, rngs=nnx.Rngs(0))
    model.llm2vae.kernel.set_value(0.1 * jax.random.normal(jax.random.key(1), model.llm2vae.kernel[...].shape))
    return model


def precomputed(vae, batch):
    """The same batch with posteriors instead of images, rounded as they are stored."""
    posterior = jax.jit(lambda images, size: encode(vae, images, size, FORWARD.compute))(batch.images, batch.image_size)
    moments = np.concatenate([posterior.mean, posterior.logvar], axis=-1).astype(np.float16)
    rows, images = batch.images.shape[:2]
    return dataclasses.replace(batch, images=np.zeros((rows, images, 0, 0, 3), np.uint8), posterior_moments=moments)


@pytest.fixture(scope="module")
def pair(model):
    batch = random_batch(CONFIG, rows=2)
    return batch, precomputed(model.vae, batch)


def test_the_noise_is_that_of_images(pair):
    one, other = (FORWARD.draws(jax.random.key(3), batch) for batch in pair)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_both_samples_of_the_posterior_agree_up_to_rounding_and_differ_from_each_other(model, pair):
    noise = FORWARD.draws(jax.random.key(3), pair[0])
    encoded, stored = (jax.jit(lambda b: FORWARD.latents(model.vae, b, noise))(batch) for batch in pair)
    for one, other in zip(encoded, stored, strict=True):
        assert one.dtype == other.dtype == jnp.float32
        np.testing.assert_allclose(other, one, rtol=2e-3, atol=2e-3)
    assert np.abs(stored[0] - stored[1]).mean() > 0.05


@pytest.mark.slow
def test_loss_and_gradients_agree_with_those_of_images(model, pair):
    graphdef, variables = nnx.split(model)
    trained, frozen = split_trainable(variables, ("default",), BAGEL)
    noise = FORWARD.draws(jax.random.key(3), pair[0])

    @jax.jit
    def value_and_grad(batch):
        def loss(parameters):
            return share_of_loss(nnx.merge(graphdef, parameters, frozen), FORWARD, RewardWeighted(), batch, noise)[0]

        return jax.value_and_grad(loss)(trained)

    (expected, gradient), (found, stored_gradient) = (value_and_grad(batch) for batch in pair)
    np.testing.assert_allclose(found, expected, rtol=2e-3)
    for one, other in zip(jax.tree.leaves(gradient), jax.tree.leaves(stored_gradient), strict=True):
        assert jnp.linalg.norm(one - other) <= 2e-3 * jnp.linalg.norm(one) + 1e-7


@pytest.mark.slow
def test_an_accumulated_step_on_several_devices_takes_stored_posteriors(model):
    batch = random_batch(CONFIG)
    losses = []
    for chosen in (batch, precomputed(model.vae, batch)):
        run = small_run(2, 2, 1, 1, accumulation_steps=2)
        with jax.set_mesh(run.mesh):
            _, metrics = jax.jit(run.step_function)(run.state, run.frozen, on_devices(chosen, run.mesh))
        losses.append(metrics.loss)
    np.testing.assert_allclose(losses[1], losses[0], rtol=2e-3)
