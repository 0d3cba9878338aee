"""A pair of pictures sees one time and one noise; what was sampled is learnt as it was sampled."""


import jax
import numpy as np

from srum_jax.families.bagel.forward import BagelForward
from srum_jax.families.bagel.packing import RowCapacity, pack_row
from srum_jax.families.bagel.position_ids import position_ids
from srum_jax.families.bagel.sample_plan import Dropout, LatentItem, TextItem, pack_sample
from srum_jax.inference.requests import ImageRequest
from srum_jax.models.bagel.config import SpecialTokens
from srum_jax.models.compute import ComputeConfig
from srum_jax.objectives.config import FlowPreference, RewardWeighted
from tests.families.bagel.small_pipeline import small_pipeline
from tests.models.packs import small_config

FORWARD = BagelForward(small_config(), ComputeConfig(remat="none"))


def row_of(columns, seeds):
    """Pictures of six tokens behind a prompt each, their times drawn under these seeds."""
    capacity = RowCapacity(text=64, vit=0, latent=32, ce=4, images=4, image_height=16, image_width=16, latent_stride=4,
                           columns=columns)
    samples = [pack_sample([TextItem([1, 2]), LatentItem(pixels=np.zeros((8, 12, 3), np.uint8), grid=(2, 3),
                                                         position_ids=position_ids(2, 3, 8), loss=True)],
                           SpecialTokens(150, 151, 152, 153), Dropout(), np.random.default_rng(seed)) for seed in seeds]
    return jax.tree.map(lambda x: x[None], pack_row(samples, capacity))


def test_neighbours_of_one_time_see_one_noise_where_pictures_are_compared():
    batch = row_of(FlowPreference.columns, [1, 1, 2, 2])
    noise = np.asarray(FORWARD.draws(jax.random.key(0), batch).flow[0])
    first, second, third, fourth = (noise[6 * n : 6 * n + 6] for n in range(4))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(third, fourth)
    assert np.abs(first - third).min() > 0 and len(np.unique(noise[24:])) == noise[24:].size


def test_elsewhere_every_token_has_a_noise_of_its_own():
    batch = row_of(RewardWeighted.columns, [1, 1, 2, 2])
    assert batch.noise_index is None
    noise = np.asarray(FORWARD.draws(jax.random.key(0), batch).flow)
    assert len(np.unique(noise)) == noise.size


def test_the_code_of_a_sampled_picture_gives_back_what_was_sampled():
    pipeline = small_pipeline()
    side = pipeline.generator.programs.config.latent_stride * 2
    made = pipeline.generate([ImageRequest("5 6 7", seed, side, side) for seed in (1, 2)])
    vae, config = pipeline.generator.programs.model.vae, pipeline.generator.programs.config
    for image in made:
        assert image.code.image_height == image.code.canvas_width == side
        moments = image.code.array.astype(np.float32)
        latent = vae.scale_factor * (np.split(moments, 2, axis=-1)[0] - vae.shift_factor)
        pixels = np.asarray(vae.decode(latent[None]))[0]
        again = np.clip((pixels * 0.5 + 0.5) * 255, 0, 255).astype(np.uint8)
        assert np.abs(again.astype(int) - image.pixels).max() <= 2  # float16
        spread = np.exp(0.5 * np.split(moments, 2, axis=-1)[1])
        assert spread.max() < 1e-6 * config.vae.z_channels
