"""From records to records with latents, by the real command, with the trained base of the shapes world."""

import contextlib
import dataclasses
import itertools
import json
import shutil

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from srum_jax.data.errors import DataError
from srum_jax.data.example_proto import decode_record
from srum_jax.data.pipeline import HostBatchIterator
from srum_jax.data.records_source import RecordsSource, read_sidecars
from srum_jax.data.shard_writer import ShardWriter
from srum_jax.data.writer import RecordWriter, write_records
from srum_jax.errors import BadInput
from srum_jax.experiment import load_recipe
from srum_jax.families.bagel.forward import BagelForward
from srum_jax.families.bagel.rows import BagelPacker
from srum_jax.models.bagel.architecture import BAGEL
from srum_jax.models.bagel.config import BagelConfig
from srum_jax.models.compute import ComputeConfig
from srum_jax.storage import object_store
from srum_jax.storage.errors import WriteError
from srum_jax.weights.checkpoint import encoder_sha256, open_checkpoint
from srum_jax.weights.load import load
from srum_jax.weights.tokenizer import load_tokenizer
from srum_jax.worlds.shapes.base import trained_base
from srum_jax.worlds.shapes.records import write_records as write_shapes
from tests.data.made_up import image_bytes, made_up_record
from tests.weights import tiny_checkpoint
from tools.make_rewards.verify_records import verify_records
from tools.precompute_latents import __main__ as command
from tools.precompute_latents import target as target_module
from tools.precompute_latents.target import Placed, Target


def checksum(checkpoint):
    return encoder_sha256(open_checkpoint(checkpoint, BAGEL))


def precompute(records, out, *options):
    return command.main(["--records", str(records), "--out", str(out), "--experiment", "tiny_srum",
                         "--images-per-device", "1", *options])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Records of 64 pixels, which training shrinks to 48, and the same with latents."""
    folder = tmp_path_factory.mktemp("latents")
    write_shapes(folder / "records", 11, image_size=64, num_shards=3)
    assert precompute(folder / "records", folder / "latents") == 0
    return folder


def in_order(directory):
    source = RecordsSource(directory)
    return [decode_record(source.read(place)) for place in range(len(source))]


def batch_of(records, kind, **changes):
    experiment = load_recipe("tiny_srum").experiment
    data = dataclasses.replace(experiment.data, records=str(records), rows_per_batch=4)
    rows = dataclasses.replace(experiment.rows, latents=kind, **changes)
    tokenizer, config = load_tokenizer(trained_base()), BagelConfig.from_directory(trained_base())
    packer = BagelPacker(rows, config, tokenizer, experiment.objective.columns, checksum(trained_base()))
    with contextlib.closing(HostBatchIterator(data, packer, experiment.objective, seed=1)) as batches:
        return jax.tree.map(np.array, next(batches)).batch


def test_the_records_are_the_same_in_the_same_order_and_places(folder):
    before, after = (RecordsSource(folder / name) for name in ("records", "latents"))
    assert [after.locate(i) for i in range(11)] == [before.locate(i) for i in range(11)]
    assert [dataclasses.replace(record, code=None) for record in in_order(folder / "latents")] == in_order(
        folder / "records")
    codes = [record.code for record in in_order(folder / "latents")]
    assert {code.shape for code in codes} == {(12, 12, 16)}
    assert {code.encoder_sha256 for code in codes} == {checksum(trained_base())}
    assert len({code.values for code in codes}) == 11
    assert list(verify_records(folder / "latents")) == []


def test_the_manifest_says_where_the_latents_come_from_and_keeps_what_it_said(folder):
    before, after = (RecordsSource(folder / name).manifest for name in ("records", "latents"))
    latents = after.provenance["latents"]
    assert {name: after.provenance[name] for name in before.provenance} == before.provenance
    assert latents["records_sha256"] == before.shards_sha256 and latents["canvas"] == [48, 48]
    assert latents["encoder_sha256"] == checksum(trained_base()).hex() and latents["transform"]["max_size"] == 48
    assert (after.counts, after.name) == (before.counts, before.name)


def test_equal_records_give_equal_bytes_whatever_the_batch(folder, tmp_path):
    assert precompute(folder / "records", tmp_path / "again", "--images-per-device", "2") == 0
    assert RecordsSource(tmp_path / "again").fingerprint == RecordsSource(folder / "latents").fingerprint


@pytest.mark.slow
@pytest.mark.parametrize("sizes", ["equal", "mixed"])
def test_training_samples_the_same_latents_as_from_images(folder, tmp_path, sizes):
    records, changes, options = folder / "records", {}, []
    with_latents = folder / "latents"
    if sizes == "mixed":  # smaller than the canvas, whose padding the autoencoder's normalisation sees
        records, with_latents = tmp_path / "mixed", tmp_path / "with"
        shapes = [(24, 40), (48, 48), (40, 32), (32, 24)]
        write_records(records, (made_up_record(i, encoded=image_bytes(i, *shape), regions=())
                                for i, shape in enumerate(shapes)), num_shards=2)
        changes = {"min_size": 16}
        options = ["--set", "rows.min_size=16"]
        assert precompute(records, with_latents, *options) == 0
    opened = open_checkpoint(trained_base(), BAGEL)
    config, vae = opened.config, nnx.merge(*load(opened, only="vae"))
    images, stored = batch_of(records, "images", **changes), batch_of(with_latents, "stored", **changes)
    np.testing.assert_array_equal(images.image_size, stored.image_size)
    if sizes == "mixed":
        assert len(np.unique(images.image_size.reshape(-1, 2), axis=0)) == 4
    forward = BagelForward(config, ComputeConfig())
    noise = forward.draws(jax.random.key(0), images)
    sampled = jax.jit(lambda batch: forward.latents(vae, batch, noise))
    real = images.latent.sample >= 0
    for one, other in zip(sampled(images), sampled(stored), strict=True):
        np.testing.assert_allclose(other[real], one[real], rtol=2e-3, atol=2e-3)


@pytest.mark.slow
def test_an_autoencoder_of_the_released_sizes(folder, tmp_path, monkeypatch):
    sizes = {"ch": 128, "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "z_channels": 16}
    monkeypatch.setattr(tiny_checkpoint, "VAE", tiny_checkpoint.VAE | sizes)
    content = {name: values / np.sqrt(max(1, values[:1].size)).astype(values.dtype)  # of a size that stays finite
               for name, values in tiny_checkpoint.tensors().items()}
    checkpoint = tiny_checkpoint.write(tmp_path / "checkpoint", content)
    options = ("--checkpoint", str(checkpoint), "--set", "rows.stride=16")
    assert precompute(folder / "records", tmp_path / "out", *options) == 0
    for record in in_order(tmp_path / "out"):
        found = record.code.array.astype(np.float32)
        assert found.shape == (6, 6, 32) and np.isfinite(found).all() and found.std() > 0.01


def test_records_that_are_there_are_not_overwritten(folder, tmp_path, capsys):
    assert precompute(folder / "records", folder / "records") == 2
    assert "no overwrite" in capsys.readouterr().err
    assert precompute(folder / "records", folder / "latents", "--dtype", "bfloat16") == 2
    assert 'dtype: the folder "float32", this command "bfloat16"' in capsys.readouterr().err


def test_the_same_command_after_the_end_says_so(folder, tmp_path, capsys):
    shutil.copytree(folder / "latents", tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    for left in ("latents.json", ".latents.json.partial-1", ".shapes-00001-of-00003.json.partial-2",
                 ".manifest.json.partial-3"):
        (tmp_path / "out" / left).write_text("left by a process that was killed at the end")
    assert precompute(folder / "records", tmp_path / "out") == 0
    assert "all is there already" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize("options, message", [
    (["--records", "nowhere"], "--records: nowhere: no such directory"),
    (["--checkpoint", "nowhere"], "nowhere"),
    (["--experiment", "tiny_srm"], "nearest is tiny_srum"),
    (["--set", "rows.max_sise=8"], "nearest is rows.max_size"),
    (["--set", "rows.image_height=44"], "rows.image_height: expected a multiple of the 8 pixels"),
    (["--out", __file__], "--out: "),
    (["--process-index", "1"], "--process-index, --num-processes: expected both or neither"),
])
def test_bad_arguments_are_named_with_exit_code_2(folder, tmp_path, capsys, options, message):
    assert precompute(folder / "records", tmp_path / "out", *options) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and not (tmp_path / "out").exists()


def test_without_experiment_a_checkpoint_must_be_named(folder, tmp_path, capsys):
    assert command.main(["--records", str(folder / "records"), "--out", str(tmp_path / "out")]) == 2
    assert "--checkpoint: expected the directory" in capsys.readouterr().err


def test_an_image_that_cannot_be_encoded_stops_the_command_and_leaves_finished_shards(tmp_path, capsys):
    good = image_bytes(1, 48, 48)
    records = [made_up_record(i, encoded=good) for i in range(7)] + [made_up_record(7, encoded=good[: len(good) // 2])]
    write_records(tmp_path / "records", records, num_shards=2)
    assert precompute(tmp_path / "records", tmp_path / "out") == 1
    assert "record 3: undecodable image" in capsys.readouterr().err
    first = "srum-rewards-00000-of-00002"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "latents.json", *(f"{first}.{kind}" for kind in ("json", "tfrecord", "tfrecord.index"))]


class Killed(BaseException):
    """Like a kill -9: nothing behind it tidies up."""


def test_a_run_that_is_killed_goes_on_with_the_shards_that_are_missing(folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(ShardWriter, "discard", lambda writer: None)
        writes = itertools.count()
        patch.setattr(ShardWriter, "write", lambda *arguments, write=ShardWriter.write: (
            write(*arguments) if next(writes) < 6 else raise_killed()))
        with pytest.raises(Killed):
            precompute(folder / "records", out)
    done = sorted(out.glob("*.tfrecord"))
    assert len(done) == 1 and len(list(out.glob(".*.partial-*"))) == 1 and not (out / "manifest.json").exists()
    times = done[0].stat().st_mtime_ns
    assert precompute(folder / "records", out, "--dtype", "bfloat16") == 2
    assert 'dtype: the folder "float32", this command "bfloat16"' in capsys.readouterr().err
    assert precompute(folder / "records", out) == 0
    assert done[0].stat().st_mtime_ns == times
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        path.name: path.read_bytes() for path in (folder / "latents").iterdir()}


def raise_killed():
    raise Killed


@pytest.fixture(scope="module")
def begun(folder):
    """A folder with the middle one of three shards, by the second of two processes."""
    assert precompute(folder / "records", folder / "begun", "--process-index", "1", "--num-processes", "2") == 0
    return folder / "begun"


def target_of(folder, out, **changes):
    source = RecordsSource(folder / "records")
    settings = json.loads((folder / "begun" / "latents.json").read_text())
    return Target(source.manifest, read_sidecars(source.directory, source.manifest), out, settings | changes)


def without(name):
    return lambda content: json.dumps({k: v for k, v in json.loads(content).items() if k != name}).encode()


@pytest.mark.parametrize("suffix, damage", [
    (".json", None), (".json", lambda content: content[:-2]), (".json", lambda content: b"[]"),
    (".json", lambda content: b"{}"), (".json", without("sha256")), (".json", without("num_bytes")),
    (".json", without("num_rejects")), (".json", lambda content: content.replace(b"train-1-c00", b"train-2-c00")),
    (".tfrecord", lambda content: content[:-1]), (".tfrecord", None), (".tfrecord.index", None),
    (".tfrecord.index", lambda content: content[:-8]),
])
def test_a_shard_that_is_not_whole_is_not_finished(folder, begun, tmp_path, suffix, damage):
    shutil.copytree(begun, tmp_path / "out")
    assert target_of(folder, tmp_path / "out").missing(range(3)) == [0, 2]
    (damaged,) = (tmp_path / "out").glob(f"shapes-*{suffix}")
    content = None if damage is None else damage(damaged.read_bytes())
    assert content != damaged.read_bytes()
    damaged.unlink()
    if content is not None:
        damaged.write_bytes(content)
    assert target_of(folder, tmp_path / "out").missing(range(3)) == [0, 1, 2]


def test_of_two_that_begin_together_with_other_settings_one_is_refused(folder, begun, tmp_path, monkeypatch):
    out = tmp_path / "out"
    listing = Target._listing

    def overtaken(target):
        found = listing(target)
        monkeypatch.setattr(Target, "_listing", listing)
        target_of(folder, out, dtype="bfloat16")
        return found

    monkeypatch.setattr(Target, "_listing", overtaken)
    with pytest.raises(BadInput, match='dtype: the folder "bfloat16", this command "float32"'):
        target_of(folder, out)
    assert json.loads((out / "latents.json").read_text())["dtype"] == "bfloat16"


def test_who_begins_while_another_finishes_finds_that_all_is_there(folder, begun, tmp_path, monkeypatch):
    out = tmp_path / "out"
    shutil.copytree(begun, out)
    look = Target._made_before

    def overtaken(target):
        found = look(target)
        monkeypatch.setattr(Target, "_made_before", look)
        shutil.copytree(folder / "latents", out, dirs_exist_ok=True)
        (out / "latents.json").unlink()
        return found

    monkeypatch.setattr(Target, "_made_before", overtaken)
    assert target_of(folder, out).manifest.num_records == 11


def test_of_two_that_finish_together_the_slower_one_finds_that_all_is_there(folder, begun, tmp_path, monkeypatch):
    out = tmp_path / "out"
    shutil.copytree(folder / "latents", out)
    (out / "manifest.json").rename(tmp_path / "manifest.json")
    shutil.copy(begun / "latents.json", out)
    target = target_of(folder, out)
    assert target.missing(range(3)) == []

    def overtaken(*arguments, **options):
        (tmp_path / "manifest.json").rename(out / "manifest.json")
        raise WriteError("a temporary file", 1, FileNotFoundError("removed by the other"))

    monkeypatch.setattr(target_module, "finish_records", overtaken)
    assert target.finish().num_records == 11
    (out / "manifest.json").rename(tmp_path / "manifest.json")
    monkeypatch.setattr(target_module, "finish_records", lambda *_, **__: (_ for _ in ()).throw(
        WriteError("a file", 1, OSError("no space"))))
    with pytest.raises(WriteError, match="no space"):
        target.finish()


def test_a_bucket_that_may_not_be_written_is_a_bad_argument(folder, begun, faulty, monkeypatch):
    refuse = object_store.AccessError("gs://faulty/out: refused")
    monkeypatch.setattr(object_store, "create_bytes", lambda *_: (_ for _ in ()).throw(refuse))
    with pytest.raises(object_store.AccessError):
        target_of(folder, "gs://faulty/out")


def test_a_shard_that_another_process_has_finished_meanwhile_stays_its(folder, begun, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(begun, out)
    target = target_of(folder, out)
    (shard,) = out.glob("*.tfrecord")
    before = shard.stat().st_mtime_ns
    records = [decode_record(data) for data in map(RecordsSource(folder / "latents").read, range(11))]
    target.write(1, (Placed(record, "file", 0) for record in records if record.index % 3 == 1))
    assert shard.stat().st_mtime_ns == before and not list(out.glob(".*")) and target.missing([1]) == []


def test_too_few_records_are_not_a_shard(folder, begun, tmp_path):
    target = target_of(folder, tmp_path / "out")
    with pytest.raises(DataError, match="expected 4 records, found 0"):
        target.write(0, iter(()))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["latents.json"]


def test_an_old_sidecar_does_not_vouch_for_a_shard_that_is_written_again(folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    assert precompute(folder / "records", out, "--process-index", "1", "--num-processes", "2") == 0
    (index,) = out.glob("*.index")
    index.unlink()
    with monkeypatch.context() as patch:  # killed between the new data and the new index and sidecar
        patch.setattr("srum_jax.storage.atomic_file.write_bytes", lambda *_: raise_killed())
        with pytest.raises(Killed):
            precompute(folder / "records", out, "--process-index", "1", "--num-processes", "2")
    assert not index.with_suffix("").with_suffix(".json").exists()
    assert precompute(folder / "records", out) == 0
    assert list(verify_records(out)) == []


def test_processes_share_the_shards_and_the_last_one_writes_the_manifest(folder, tmp_path, capsys):
    out, share = tmp_path / "out", ("--num-processes", "2", "--process-index")
    assert precompute(folder / "records", out, *share, "1") == 0
    assert "2 of 3 are not (the first is 0)" in capsys.readouterr().out
    assert [path.name[-23:-18] for path in out.glob("*.tfrecord")] == ["00001"]
    assert precompute(folder / "records", out, *share, "0") == 0
    assert "11 records with latents" in capsys.readouterr().out
    assert RecordsSource(out).fingerprint == RecordsSource(folder / "latents").fingerprint
    assert not (out / "latents.json").exists()


def test_shards_in_a_bucket(gcs_bucket, folder):
    out, share = gcs_bucket / "latents", ("--num-processes", "2", "--process-index")
    assert precompute(folder / "records", out, *share, "1") == 0
    assert precompute(folder / "records", out, *share, "0") == 0
    assert RecordsSource(out).fingerprint == RecordsSource(folder / "latents").fingerprint
    assert not (out / "latents.json").exists()
    assert precompute(folder / "records", out) == 0
    assert precompute(folder / "records", out, "--dtype", "bfloat16") == 2


def test_shards_of_which_nobody_knows_what_made_them_are_not_taken_for_finished(folder, tmp_path, capsys):
    shutil.copytree(folder / "latents", tmp_path / "out")
    (tmp_path / "out" / "manifest.json").unlink()
    assert precompute(folder / "records", tmp_path / "out") == 2
    assert "holds 3 shards" in capsys.readouterr().err


def test_an_image_beyond_the_canvas_is_named_with_what_to_change(folder, tmp_path, capsys):
    options = [word for side in ("height", "width") for word in ("--set", f"rows.image_{side}=40")]
    assert precompute(folder / "records", tmp_path / "out", *options) == 1
    assert "48 x 48 pixels after the transform, the canvas 40 x 40; raise rows.image_width" in capsys.readouterr().err


def test_candidates_rejects_and_gaps_are_kept(tmp_path):
    places = [(0, 0), (0, 1), (3, 0), (4, 2), (9, 0)]
    with RecordWriter(tmp_path / "records", name="own", num_shards=2) as writer:
        for number, (index, candidate) in enumerate(places):
            writer.write(made_up_record(index, record_id=f"{number}", candidate=candidate,
                                        encoded=image_bytes(number, 48, 48)))
        writer.reject(5, "no_region")
        writer.close(num_prompts=10)
    assert precompute(tmp_path / "records", tmp_path / "out") == 0
    assert sorted((record.index, record.candidate) for record in in_order(tmp_path / "out")) == places
    assert [record.record_id for record in in_order(tmp_path / "out")] == [
        record.record_id for record in in_order(tmp_path / "records")]
    counts = json.loads((tmp_path / "out" / "manifest.json").read_text())["counts"]
    assert counts == {"prompts": 10, "candidates": 6, "exported": 5, "rejected": {"no_region": 1}}
    assert list(verify_records(tmp_path / "out")) == []


def test_the_checksum_is_that_of_the_encoder_and_not_of_the_files(tmp_path):
    own = tmp_path / "base"
    shutil.copytree(trained_base(), own)
    tensors = load_file(own / "ae.safetensors")
    for name, is_the_same in (("decoder.conv_in.bias", True), ("encoder.conv_in.bias", False)):
        tensors[name] = tensors[name] + np.float32(1e-3)
        save_file(tensors, own / "ae.safetensors")
        assert (checksum(own) == checksum(trained_base())) == is_the_same
