import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec

from srum_jax.data.example import stack_rows
from srum_jax.families.bagel.forward import BagelForward
from srum_jax.families.bagel.packing import RowCapacity, pack_row
from srum_jax.families.bagel.position_ids import position_ids
from srum_jax.families.bagel.sample_plan import Dropout, LatentItem, TextItem, pack_sample
from srum_jax.models.bagel.model import Bagel
from srum_jax.models.compute import ComputeConfig
from srum_jax.objectives.config import RewardWeighted
from srum_jax.training.step import share_of_loss
from tests.models.packs import random_batch, small_config

CONFIG = small_config()
FORWARD = BagelForward(CONFIG, ComputeConfig(remat="none"))


@pytest.fixture(scope="module")
def model() -> Bagel:
    model = Bagel(CONFIG, rngs=nnx.Rngs(0))
    model.llm2vae.kernel.set_value(0.1 * jax.random.normal(jax.random.key(1), model.llm2vae.kernel[...].shape))
    return model


@pytest.fixture(scope="module")
def compute_loss(model):
    @jax.jit
    def run(batch, noise):
        return share_of_loss(model, FORWARD, RewardWeighted(), batch, noise)

    return run


def padded(batch, noise, text: int, latent: int):
    """The same batch in larger buffers, whose padding holds rubbish where it may."""

    def grow(stream, extra):
        filled = {"sample": -1, "split": -1, "order": 5, "full": 0, "noise": 0, "position": 9}
        return type(stream)(**{
            name: np.pad(getattr(stream, name), ((0, 0), (0, extra)), constant_values=value)
            for name, value in filled.items()
        })

    def fill(x, extra, value):
        return np.pad(x, ((0, 0), (0, extra)) + ((0, 0),) * (np.ndim(x) - 2), constant_values=value)

    grown = dataclasses.replace(
        batch, text=grow(batch.text, text), text_ids=fill(batch.text_ids, text, 7), latent=grow(batch.latent, latent),
        latent_position_ids=fill(batch.latent_position_ids, latent, 3),
        latent_index=fill(batch.latent_index, latent, 1),
        timestep_logit=fill(batch.timestep_logit, latent, -np.inf),
        image_columns={name: fill(batch.image_columns[name], latent, value)
                       for name, value in (("alpha", 9.0), ("reward_map", -9.0))},
    )
    return grown, dataclasses.replace(noise, flow=jnp.asarray(fill(np.asarray(noise.flow), latent, 2.0)))


@pytest.mark.slow
def test_padding_changes_neither_the_loss_nor_any_metric_but_its_own_share(compute_loss):
    batch = random_batch(CONFIG, rows=2)
    noise = FORWARD.draws(jax.random.key(3), batch)
    loss, sums = compute_loss(batch, noise)
    loss_padded, sums_padded = compute_loss(*padded(batch, noise, text=5, latent=6))
    np.testing.assert_allclose(loss_padded, loss, rtol=1e-6)
    for name, value in sums.items():
        if not name.startswith("tokens/"):
            np.testing.assert_allclose(sums_padded[name].total, value.total, rtol=2e-6, err_msg=name)
            np.testing.assert_allclose(sums_padded[name].weight, value.weight, rtol=1e-6, err_msg=name)


@pytest.mark.slow
def test_the_loss_of_a_batch_is_the_token_mean_over_its_rows(compute_loss):
    batch = random_batch(CONFIG, rows=4)
    noise = FORWARD.draws(jax.random.key(3), batch)
    whole, _ = compute_loss(batch, noise)
    rows = [compute_loss(*jax.tree.map(lambda x, i=i: x[i:i + 1], (batch, noise)))[0] for i in range(4)]
    np.testing.assert_allclose(whole, np.mean(rows), rtol=1e-5)


def test_bytes_and_normalised_pixels_give_the_same_latents(compute_loss):
    batch = random_batch(CONFIG, rows=2)
    noise = FORWARD.draws(jax.random.key(3), batch)
    normalised = dataclasses.replace(batch, images=(batch.images.astype(np.float32) / 255 - 0.5) / 0.5)
    np.testing.assert_allclose(compute_loss(batch, noise)[0], compute_loss(normalised, noise)[0], rtol=1e-6)


def test_padding_pixels_are_zero_after_normalisation_whatever_their_bytes(compute_loss):
    batch = random_batch(CONFIG, rows=2)
    noise = FORWARD.draws(jax.random.key(3), batch)
    smaller = dataclasses.replace(batch, image_size=batch.image_size - np.array([4, 0], np.int32))
    scribbled = smaller.images.copy()
    scribbled[:, :, -4:] = 255
    a, b = (compute_loss(dataclasses.replace(smaller, images=x), noise)[0] for x in (smaller.images, scribbled))
    assert a == b
    assert a != compute_loss(batch, noise)[0]


def test_a_reference_image_of_its_own_changes_only_the_reference_term(compute_loss):
    batch = random_batch(CONFIG, rows=2)
    noise = FORWARD.draws(jax.random.key(3), batch)
    other = dataclasses.replace(batch, reference_images=255 - batch.images)
    own, another = compute_loss(batch, noise)[1], compute_loss(other, noise)[1]
    assert own["loss/reward"].total == another["loss/reward"].total
    assert own["loss/reference"].total != another["loss/reference"].total


@pytest.mark.slow
def test_the_autoencoder_gets_no_gradient_and_the_und_expert_gets_one(model):
    batch = random_batch(CONFIG, rows=2)
    noise = FORWARD.draws(jax.random.key(3), batch)
    graphdef, state = nnx.split(model)
    gradient = jax.jit(jax.grad(lambda s: share_of_loss(
        nnx.merge(graphdef, s), FORWARD, RewardWeighted(), batch, noise)[0]))(state)
    norms = {".".join(map(str, path)): float(jnp.linalg.norm(v.get_value().reshape(-1)))
             for path, v in nnx.to_flat_state(gradient)}
    assert all(norm == 0 for name, norm in norms.items() if name.startswith(("vae.", "vit.", "llm.lm_head")))
    assert norms["llm.layers.und.query.kernel"] > 0 and norms["llm.layers.gen.query.kernel"] > 0
    assert norms["llm.und_norm.scale"] == 0  # und outputs of the last layer feed only text


def test_noise_depends_on_the_key_alone_and_streams_differ():
    batch = random_batch(CONFIG, rows=2)
    a, b = (FORWARD.draws(jax.random.key(5), batch) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, a, b)
    assert not np.array_equal(a.posterior, a.reference_posterior)
    assert abs(float(jnp.std(a.flow)) - 1) < 0.1


def test_masks_say_whose_each_token_is_and_what_counts():
    special, grid = CONFIG.special_tokens, (2, 2)
    pixels = np.zeros((2 * CONFIG.latent_stride,) * 2 + (3,), np.uint8)
    clean, noisy = (LatentItem(pixels, grid, position_ids(*grid, CONFIG.max_latent_size), loss=loss)
                    for loss in (False, True))
    plans = [[TextItem([1, 2]), noisy], [clean, TextItem([3], loss=True)]]
    capacity = RowCapacity(text=16, vit=0, latent=10, ce=4, images=2, image_height=pixels.shape[0],
                           image_width=pixels.shape[1], latent_stride=CONFIG.latent_stride, samples=3)
    batch = stack_rows([pack_row([pack_sample(plan, special, Dropout(), np.random.default_rng(0)) for plan in plans],
                                 capacity)])
    masks = FORWARD.masks(batch)
    assert masks.image[0].tolist() == [True] * 4 + [False] * 6, "clean images and padding do not count"
    assert masks.image_sample[0].tolist() == [0] * 4 + [1] * 4 + [-1] * 2
    assert masks.text_sample[0].tolist() == [1, 1, -1, -1]
    np.testing.assert_allclose(masks.text[0], [2**-0.5, 2**-0.5, 0, 0])
    assert {name: int(real.sum()) for name, real in masks.streams.items()} == {"text": 11, "vit": 0, "latent": 8}
    assert masks.num_samples == 3


def test_every_array_of_a_batch_is_laid_out_and_only_tokens_are_split_over_seq():
    batch = random_batch(CONFIG, rows=2)
    layout = FORWARD.layout(batch)
    assert jax.tree.structure(layout) == jax.tree.structure(batch)
    assert layout.latent.sample == layout.image_columns["alpha"] == PartitionSpec(("data", "fsdp"), "seq")
    assert layout.images == layout.ce_index == PartitionSpec(("data", "fsdp"))
