
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srum_jax.data.errors import CapacityError
from srum_jax.data.shuffle import shuffled_index
from srum_jax.families.bagel.packing import RowBuilder, RowCapacity, pack_row
from srum_jax.families.bagel.position_ids import position_ids
from srum_jax.families.bagel.sample_plan import Dropout, LatentItem, TextItem, VitItem, pack_sample
from srum_jax.models.bagel.config import SpecialTokens
from srum_jax.objectives.config import RewardWeighted

SPECIAL = SpecialTokens(150, 151, 152, 153)
CAPACITY = RowCapacity(text=64, vit=16, latent=32, ce=16, images=4, image_height=16, image_width=12, latent_stride=4,
                       patch_values=12, columns=RewardWeighted.columns)


def latent(rows=2, columns=3, **changes):
    reward_map = np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)
    fields = dict(pixels=np.full((4 * rows, 4 * columns, 3), 7, np.uint8), grid=(rows, columns),
                  position_ids=position_ids(rows, columns, 8), loss=True,
                  columns={"alpha": np.full_like(reward_map, 0.5), "reward_map": reward_map}) | changes
    return LatentItem(**fields)


def vit(patches=4):
    return VitItem(np.ones((patches, 12), np.float32), np.arange(patches))


def sample(*plan):
    return pack_sample(plan, SPECIAL, Dropout(), np.random.default_rng(0))


def test_streams_together_hold_each_token_of_the_sequence_once():
    samples = [sample(TextItem([1, 2]), latent()),
               sample(latent(loss=False), vit(), TextItem([3], loss=True), latent())]
    row = pack_row(samples, CAPACITY)
    total = sum(s.length for s in samples)
    orders = np.concatenate([s.order[s.sample >= 0] for s in (row.text, row.vit, row.latent)])
    assert sorted(orders) == list(range(total))
    splits = np.concatenate([s.split[s.sample >= 0] for s in (row.text, row.vit, row.latent)])
    assert sorted(set(splits)) == list(range(6))


def test_labels_point_at_the_token_before_them():
    row = pack_row([sample(TextItem([1, 2]), latent()), sample(vit(), TextItem([5, 6], loss=True))], CAPACITY)
    labels, index = row.ce_labels[:3], row.ce_index[:3]
    assert labels.tolist() == [5, 6, 151]
    assert row.text_ids[index].tolist() == [150, 5, 6]
    assert (row.ce_weights[3:] == 0).all()


def test_clean_images_have_no_time_and_only_noise_images_enter_the_loss():
    row = pack_row([sample(latent(loss=False), TextItem([1]), latent())], CAPACITY)
    assert np.isneginf(row.timestep_logit[:6]).all() and np.isfinite(row.timestep_logit[6:12]).all()
    assert row.loss_mask.sum() == 6 and row.loss_mask[6:12].all()


def test_rewards_lie_beside_their_tokens():
    row = pack_row([sample(latent()), sample(latent(1, 2))], CAPACITY)
    assert row.image_columns["reward_map"][:8].tolist() == [0, 1, 2, 3, 4, 5, 0, 1]
    assert row.image_columns["alpha"][:8].tolist() == [0.5] * 8 and (row.image_columns["alpha"][8:] == 0).all()


@pytest.mark.parametrize("plan, message", [
    ([TextItem(range(63))], "needs 65 text tokens.*64 of 64.*text_capacity"),
    ([vit(17)], "ViT patches.*vit_capacity"),
    ([latent(4, 3), latent(4, 3), latent(4, 3)], "latent tokens.*latent_capacity"),
    ([latent(1, 1)] * 5, "latent images.*images_per_row"),
    ([TextItem(range(20), loss=True)], "predicted text tokens.*ce_capacity"),
    ([latent(1, 4)], "16 x 4 pixels.*12 x 16.*image_width"),
])
def test_what_does_not_fit_is_named(plan, message):
    with pytest.raises(CapacityError, match=message):
        pack_row([sample(*plan)], CAPACITY)


def test_a_sample_that_does_not_fit_leaves_the_row_as_it_was():
    builder = RowBuilder(CAPACITY)
    builder.add(sample(latent()))
    with pytest.raises(CapacityError):
        builder.add(sample(TextItem(range(80)), latent()))
    builder.add(sample(latent()))
    row = builder.finish()
    assert row.latent.sample[:13].tolist() == [0] * 6 + [1] * 6 + [-1]


def test_frames_that_form_no_split_are_refused():
    for plan in ([latent(split_end=False)], [latent(split_start=False)], [latent(split_end=False), TextItem([1])]):
        with pytest.raises(ValueError, match="split"):
            sample(*plan)


def test_an_image_larger_than_the_position_table_is_refused():
    with pytest.raises(ValueError, match="position table"):
        position_ids(9, 2, 8)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(0, 2**64 - 1), st.integers(0, 5))
def test_a_shuffled_order_holds_every_index_once(size, seed, epoch):
    assert sorted(shuffled_index(i, size, seed, epoch) for i in range(size)) == list(range(size))


def test_a_shuffled_order_is_the_same_for_ever():
    assert [shuffled_index(i, 10, 42, 0) for i in range(10)] == [4, 2, 9, 3, 1, 6, 8, 5, 0, 7]


def test_orders_of_a_large_set_are_spread_evenly():
    drawn = np.array([shuffled_index(i, 10**8, 1, 0) for i in range(2000)])
    counts = np.histogram(drawn, bins=10, range=(0, 10**8))[0]
    assert counts.min() > 140 and counts.max() < 260
