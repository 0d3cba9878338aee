import dataclasses

import jax
import numpy as np
import pytest

from srum_jax.data import example
from srum_jax.data.errors import CapacityError, DataError
from srum_jax.data.writer import write_records
from srum_jax.families.bagel.config import BagelRows
from srum_jax.families.bagel.family import FAMILY
from srum_jax.families.bagel.forward import BagelForward
from srum_jax.families.bagel.packing import RowBuilder
from srum_jax.families.bagel.position_ids import position_ids
from srum_jax.families.bagel.rows import row_capacity
from srum_jax.families.bagel.sample_plan import Dropout, LatentItem, pack_sample
from srum_jax.training.abstract_run import abstract_batch
from srum_jax.training.experiment import Experiment
from tests.data.made_up import MODEL, host_batches, made_up_record, settings
from tests.data.posteriors import ENCODER, with_posterior, write_with_posteriors
from tests.models.packs import mesh_of


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored") / "records"
    write_with_posteriors(folder)
    return folder


def batches(folder, count=3, encoder=ENCODER, **changes):
    iterator = host_batches(folder, encoder_sha256=encoder, **({"latents": "stored"} | changes))
    try:
        return [jax.tree.map(np.array, next(iterator)) for _ in range(count)]
    finally:
        iterator.close()


def test_stored_latents_change_nothing_in_a_batch_but_the_images(records, monkeypatch):
    decoded = batches(records, latents="images")
    monkeypatch.delattr(example, "decode_image")
    for images, stored in zip(decoded, batches(records), strict=True):
        assert stored.batch.images.shape == (2, 2, 0, 0, 3) and images.batch.posterior_moments is None
        assert stored.record_ids == images.record_ids
        one = dataclasses.replace(images.batch, images=None)
        other = dataclasses.replace(stored.batch, images=None, posterior_moments=None)
        jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.slow
def test_worker_processes_read_the_same_latents(records):
    for alone, by_workers in zip(batches(records), batches(records, num_workers=2), strict=True):
        assert by_workers.record_ids == alone.record_ids
        jax.tree.map(np.testing.assert_array_equal, by_workers.batch, alone.batch)


def test_moments_lie_at_the_top_left_of_their_canvas(records):
    (found,) = batches(records, 1)
    assert found.batch.posterior_moments.shape == (2, 2, 12, 12, 8)
    assert found.batch.posterior_moments.dtype == np.float16
    index = int(found.record_ids[1][0].removeprefix("image-"))
    expected = with_posterior(made_up_record(index), settings(records)[1]).code.array
    np.testing.assert_array_equal(found.batch.posterior_moments[1, 0, :10], expected)
    assert (found.batch.posterior_moments[:, :, 10:] == 0).all() and (found.batch.image_size == (20, 24)).all()


def test_the_abstract_batch_is_that_of_the_pipeline(records):
    (real,) = batches(records, 1)
    data, rows = settings(records, latents="stored")
    experiment = Experiment("stored", data=data, rows=rows)
    abstract = abstract_batch(experiment, FAMILY, MODEL, BagelForward(MODEL, experiment.compute), mesh_of(2, 1, 1, 1))
    assert jax.tree.structure(real.batch) == jax.tree.structure(abstract)
    for a, b in zip(jax.tree.leaves(real.batch), jax.tree.leaves(abstract), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert b.sharding.shard_shape(b.shape)[0] == 1


@pytest.mark.parametrize("changes, message", [
    ({"max_size": 16}, "code/image_height': expected 12, by the settings of this run .*found 20"),
    ({"image_width": 32}, "code/canvas_width': expected 32, by the settings of this run .*found 24"),
    ({"encoder": bytes(32)}, "code/encoder_sha256': expected 0000.*, the encoder of model.checkpoint .*found"),
])
def test_latents_of_other_settings_are_refused_at_the_start_with_what_to_do(records, changes, message):
    with pytest.raises(DataError, match=message) as error:
        batches(records, **changes)
    assert "python -m tools.precompute_latents" in str(error.value) and "record 0" in str(error.value)


def test_records_without_latents_are_refused_at_the_start(tmp_path):
    write_records(tmp_path / "records", (made_up_record(i) for i in range(4)), num_shards=2)
    with pytest.raises(DataError, match=r"code/values.*tools\.precompute_latents.*rows\.latents=images.*nothing"):
        batches(tmp_path / "records")


def test_a_later_record_without_latents_stops_or_is_left_out_and_named(tmp_path):
    _, rows = settings(tmp_path)
    made_up = [made_up_record(i) if i == 2 else with_posterior(made_up_record(i), rows) for i in range(4)]
    write_records(tmp_path / "records", made_up, num_shards=1)
    with pytest.raises(DataError, match=r"record 2: .*code/values"):
        batches(tmp_path / "records", 2, shuffle=False)
    left_out = [bad for batch in batches(tmp_path / "records", 1, shuffle=False, on_bad_record="skip")
                for bad in batch.bad_records]
    assert [bad.record_number for bad in left_out] == [2]


def test_several_sets_are_mixed_and_each_of_them_is_looked_at(tmp_path):
    for name in "ab":
        write_with_posteriors(tmp_path / name, 6, prefix=name)
    write_records(tmp_path / "c", (made_up_record(i, record_id=f"c{i}") for i in range(3)), num_shards=1)
    sets = tuple((str(tmp_path / name), 1.0) for name in "ab")
    found = batches("", 3, records=sets)
    assert {name[0] for batch in found for row in batch.record_ids for name in row} == {"a", "b"}
    with pytest.raises(DataError, match=r"c/srum-rewards.*code/values"):
        batches("", 3, records=(*sets, (str(tmp_path / "c"), 1.0)))


def test_a_row_of_one_kind_refuses_images_of_the_other():
    item = LatentItem(np.zeros((20, 24, 3), np.uint8), (5, 6), position_ids(5, 6, 16), loss=True)
    sample = pack_sample([item], MODEL.special_tokens, Dropout(), np.random.default_rng(0))
    with pytest.raises(CapacityError, match="comes as pixels, its row holds a stored posterior"):
        RowBuilder(row_capacity(settings("", latents="stored")[1], MODEL)).add(sample)


def test_another_word_for_the_latents_is_refused():
    with pytest.raises(ValueError, match=r"rows\.latents: expected images or stored, found 'cached'"):
        BagelRows(latents="cached")
