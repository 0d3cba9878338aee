"""Records in a bucket; see tests/gcs.py for the emulator."""

import hashlib
import pickle
import tempfile

import fsspec
import jax
import numpy as np
import pytest
from etils import epath

from srum_jax.data.errors import DataError, SchemaError
from srum_jax.data.records_source import RecordsSource
from srum_jax.data.sidecars import restore_sidecars
from srum_jax.data.tfrecord import FRAME_BYTES
from srum_jax.data.writer import RecordWriter
from srum_jax.errors import BadInput
from srum_jax.storage import object_store
from srum_jax.storage.atomic_directory import atomic_directory, is_complete
from srum_jax.storage.atomic_file import atomic_write, file_sha256, write_bytes, write_json
from srum_jax.storage.errors import WriteError
from srum_jax.weights.tokenizer import load_tokenizer
from srum_jax.worlds.shapes import base
from tests.data.made_up import host_batches, made_up_record, write_made_up


def names_in(folder: epath.Path) -> list[str]:
    object_store.forget_listing(folder)
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.fixture
def spool(tmp_path, monkeypatch):
    """Where temporary files go; to see that none stays."""
    (tmp_path / "spool").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "spool"))
    return tmp_path / "spool"


def iterator(folder, **changes):
    return host_batches(folder, **changes)


def test_records_in_a_bucket_are_those_on_a_disk(gcs_bucket, tmp_path, spool):
    write_made_up(tmp_path / "records")
    write_made_up(gcs_bucket / "records")
    assert names_in(gcs_bucket / "records") == sorted(path.name for path in (tmp_path / "records").iterdir())
    for path in (tmp_path / "records").iterdir():
        assert (gcs_bucket / "records" / path.name).read_bytes() == path.read_bytes()
    assert list(spool.iterdir()) == []
    local, remote = iterator(tmp_path / "records"), iterator(gcs_bucket / "records")
    for _ in range(8):
        first, second = next(local), next(remote)
        assert first.record_ids == second.record_ids
        jax.tree.map(np.testing.assert_array_equal, first.batch, second.batch)
    assert local.get_state() == remote.get_state()
    local.close(), remote.close()


def test_a_record_in_a_bucket_costs_one_request_of_its_own_size(gcs_bucket, monkeypatch):
    write_made_up(gcs_bucket / "records")
    source, requests = pickle.loads(pickle.dumps(RecordsSource(gcs_bucket / "records"))), []
    read_range = object_store.read_range

    def counted(path, offset, size):
        requests.append(size)
        return read_range(path, offset, size)

    monkeypatch.setattr(object_store, "read_range", counted)
    sizes = [len(source.read(place)) + FRAME_BYTES for place in range(len(source))]
    assert requests == sizes


def test_a_folder_above_the_export_will_do(gcs_bucket):
    write_made_up(gcs_bucket / "run" / "export")
    assert len(RecordsSource(gcs_bucket / "run")) == 11


def test_what_is_missing_or_cut_off_in_a_bucket_is_found_when_it_is_opened(gcs_bucket):
    write_made_up(gcs_bucket / "records")
    shard = gcs_bucket / "records" / "srum-rewards-00001-of-00003.tfrecord"
    whole = shard.read_bytes()
    object_store.put_bytes(shard, whole[:-1])
    with pytest.raises(DataError, match=f"{shard}: truncated: expected {len(whole)} bytes, found {len(whole) - 1}"):
        RecordsSource(gcs_bucket / "records")
    shard.unlink()
    with pytest.raises(DataError, match=f"{shard}: no such file"):
        RecordsSource(gcs_bucket / "records")
    with pytest.raises(DataError, match="nowhere: no such directory"):
        RecordsSource(gcs_bucket / "nowhere")


def test_a_lost_index_of_a_bucket_is_scanned_and_made_again(gcs_bucket):
    write_made_up(gcs_bucket / "records")
    index = gcs_bucket / "records" / "srum-rewards-00001-of-00003.tfrecord.index"
    before = index.read_bytes()
    index.unlink()
    assert len(RecordsSource(gcs_bucket / "records")) == 11
    assert restore_sidecars(gcs_bucket / "records") == [index]
    assert index.read_bytes() == before


def test_a_flipped_bit_in_a_bucket_is_named(gcs_bucket):
    write_made_up(gcs_bucket / "records")
    shard = gcs_bucket / "records" / "srum-rewards-00000-of-00003.tfrecord"
    data = bytearray(shard.read_bytes())
    data[40] ^= 1
    object_store.put_bytes(shard, bytes(data))
    with pytest.raises(DataError, match=f"{shard}: record 0: checksum"):
        RecordsSource(gcs_bucket / "records").read(0)


def test_an_interrupted_writer_leaves_nothing_in_the_bucket(gcs_bucket, spool):
    with pytest.raises(SchemaError), RecordWriter(gcs_bucket / "records", name="x", num_shards=2) as writer:
        writer.write(made_up_record(0))
        writer.write(made_up_record(0))
    assert names_in(gcs_bucket / "records") == [] and list(spool.iterdir()) == []


def test_records_that_another_process_finished_meanwhile_are_noticed(gcs_bucket):
    folder, other = gcs_bucket / "records", fsspec.filesystem("gcs", skip_instance_cache=True)
    object_store.put_bytes(folder / "README", b"")
    with pytest.raises(DataError, match="holds finished records already"), \
            RecordWriter(folder, name="x", num_shards=1) as writer:
        writer.write(made_up_record(0))
        assert [path.name for path in folder.iterdir()] == ["README"]  # the driver remembers this
        other.pipe_file(f"{folder}/manifest.json", b"{}")
    assert names_in(folder) == ["README", "manifest.json"]


def test_an_error_while_an_object_is_written_leaves_the_former_one(gcs_bucket, spool):
    write_json(gcs_bucket / "a.json", {"a": 1})
    before = (gcs_bucket / "a.json").read_bytes()
    for name, expected in (("a.json", before), ("b.json", None)):
        with pytest.raises(KeyboardInterrupt), atomic_write(gcs_bucket / name) as file:
            file.write(b"half")
            raise KeyboardInterrupt
        assert (gcs_bucket / name).exists() == (expected is not None)
    assert (gcs_bucket / "a.json").read_bytes() == before and names_in(gcs_bucket) == ["a.json"]
    with atomic_write(gcs_bucket / "a.json") as file:
        file.write(b"whole")
    assert (gcs_bucket / "a.json").read_bytes() == b"whole" and list(spool.iterdir()) == []
    assert file_sha256(gcs_bucket / "a.json") == hashlib.sha256(b"whole").hexdigest()


@pytest.mark.parametrize("size", [0, 1, 12 * 2**20])
def test_objects_of_any_size_arrive_whole(gcs_bucket, size):
    data = np.random.default_rng(0).bytes(size)
    write_bytes(gcs_bucket / "whole", data)
    assert (gcs_bucket / "whole").read_bytes() == data
    with atomic_write(gcs_bucket / "file") as file:
        file.write(data)
    assert (gcs_bucket / "file").read_bytes() == data
    assert object_store.sizes(gcs_bucket) == {"whole": size, "file": size}


def test_an_upload_that_is_refused_names_the_object(gcs_bucket, monkeypatch):
    import gcsfs.retry

    def refuse(*_, **__):
        raise gcsfs.retry.HttpError({"code": 400, "message": "no"})

    monkeypatch.setattr(object_store._filesystem(gcs_bucket), "pipe_file", refuse)
    with pytest.raises(WriteError, match=f"{gcs_bucket}/a: cannot be written, 3 bytes"):
        write_bytes(gcs_bucket / "a", b"abc")


def test_a_directory_of_a_bucket_is_there_when_it_is_complete(gcs_bucket):
    with atomic_directory(gcs_bucket / "model") as folder:
        (folder / "part").mkdir()
        (folder / "x").write_text("1")
        (folder / "part" / "y").write_text("2")
        assert not is_complete(gcs_bucket / "model")
    assert is_complete(gcs_bucket / "model") and names_in(gcs_bucket) == ["model"]
    assert (gcs_bucket / "model" / "x").read_text() == "1" and (gcs_bucket / "model" / "part" / "y").read_text() == "2"
    with pytest.raises(FileExistsError, match="choose another directory"), atomic_directory(gcs_bucket / "model"):
        pytest.fail("the block must not run")


def test_an_error_leaves_no_directory_in_the_bucket(gcs_bucket, monkeypatch):
    with pytest.raises(KeyboardInterrupt), atomic_directory(gcs_bucket / "model") as folder:
        (folder / "x").write_text("1")
        raise KeyboardInterrupt
    assert names_in(gcs_bucket) == []
    put_file = object_store.put_file

    def second_fails(path, local):
        if path.name == "y":
            raise OSError("no")
        put_file(path, local)

    monkeypatch.setattr(object_store, "put_file", second_fails)
    with pytest.raises(OSError, match="no"), atomic_directory(gcs_bucket / "model") as folder:
        (folder / "x").write_text("1")
        (folder / "y").write_text("2")
    assert names_in(gcs_bucket) == [] and not is_complete(gcs_bucket / "model")


def test_a_directory_whose_upload_was_killed_is_made_again(gcs_bucket, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(*_, **__):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(type(gcs_bucket), "rmtree", killed)  # a killed process cleans nothing up
        with pytest.raises(Killed), atomic_directory(gcs_bucket / "model") as folder:
            (folder / "old").write_text("1")
            patch.setattr(object_store, "put_file", killed)
            object_store.put_bytes(gcs_bucket / "model" / "old", b"1")
    assert (gcs_bucket / "model").exists() and not is_complete(gcs_bucket / "model")
    with atomic_directory(gcs_bucket / "model") as folder:
        (folder / "new").write_text("2")
    assert is_complete(gcs_bucket / "model") and names_in(gcs_bucket / "model") == ["new"]


def test_a_package_that_is_missing_is_named(monkeypatch):
    def missing(_):
        raise ImportError("Please install gcsfs to access Google Storage")

    monkeypatch.setattr(object_store.backend.fsspec_backend, "fs", missing)
    for use in (lambda: RecordsSource("gs://bucket/records"), lambda: write_made_up("gs://bucket/records")):
        with pytest.raises(BadInput, match=r"gs://bucket/records: .*install gcsfs.*srum-jax\[gcs\]"):
            use()


def test_the_tokenizer_of_a_checkpoint_in_a_bucket_is_that_on_the_disk(gcs_bucket):
    local = epath.Path(base.__file__).parent / "base_weights"
    for name in ("tokenizer.json", "tokenizer_config.json"):
        object_store.put_file(gcs_bucket / "model" / name, local / name)
    expected, found = load_tokenizer(local), load_tokenizer(gcs_bucket / "model")
    text = "a red circle left of a blue square"
    assert found.encode(text) == expected.encode(text) == pickle.loads(pickle.dumps(found)).encode(text)
