import dataclasses
import errno
import hashlib
import json
import os

import numpy as np
import pytest
from PIL import Image

from srum_jax.data.errors import DataError, ImageError, SchemaError
from srum_jax.data.example_proto import decode_record
from srum_jax.data.image_transform import decode_image, to_rgb
from srum_jax.data.manifest import shard_name
from srum_jax.data.records_source import RecordsSource
from srum_jax.data.tfrecord import TFRecordFile
from srum_jax.data.writer import RecordWriter, num_shards_for, write_records
from srum_jax.storage.atomic_file import atomic_write
from tests.data.made_up import image_bytes, made_up_record, write_made_up


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_record_i_lies_in_shard_i_mod_n(tmp_path):
    manifest = write_made_up(tmp_path / "records", num_records=11, num_shards=3)
    assert (manifest.num_records, manifest.num_shards) == (11, 3)
    for shard in range(3):
        file = TFRecordFile(tmp_path / "records" / shard_name("srum-rewards", shard, 3))
        indexes = [decode_record(file[i]).index for i in range(len(file))]
        assert indexes == list(range(shard, 11, 3))


def test_equal_records_give_equal_bytes(tmp_path):
    write_made_up(tmp_path / "a")
    write_made_up(tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_an_error_while_writing_leaves_nothing_behind(tmp_path):
    def records():
        yield made_up_record(0)
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        write_records(tmp_path / "records", records())
    assert list((tmp_path / "records").iterdir()) == []


def test_finished_records_are_never_overwritten(tmp_path):
    write_made_up(tmp_path / "records")
    before = contents(tmp_path / "records")
    with pytest.raises(DataError, match="no overwrite"):
        write_made_up(tmp_path / "records")
    assert contents(tmp_path / "records") == before


def test_the_same_id_twice_is_refused(tmp_path):
    with RecordWriter(tmp_path / "records", name="x", num_shards=2) as writer:
        writer.write(made_up_record(0))
        with pytest.raises(SchemaError, match="used once"):
            writer.write(made_up_record(1, record_id="image-0"))


def test_records_out_of_order_are_refused(tmp_path):
    with RecordWriter(tmp_path / "records", name="x", num_shards=2) as writer:
        writer.write(made_up_record(3))
        with pytest.raises(SchemaError, match="record/index"):
            writer.write(made_up_record(2))


def test_an_image_of_another_size_than_stated_is_refused(tmp_path):
    record = dataclasses.replace(made_up_record(0), image_width=25)
    with pytest.raises(SchemaError, match="image/width"):
        write_records(tmp_path / "records", [record])


def test_bytes_that_are_no_image_are_refused():
    with pytest.raises(ImageError, match="undecodable"):
        made_up_record(0, encoded=b"not an image")


def test_records_are_read_in_the_order_in_which_they_were_written(tmp_path):
    write_made_up(tmp_path / "records", num_records=20, num_shards=7)
    source = RecordsSource(tmp_path / "records")
    assert [decode_record(source.read(i)).index for i in range(20)] == list(range(20))


def test_shard_counts_follow_the_table():
    gigabyte = 10**9
    assert num_shards_for(int(7.5 * gigabyte), 6234) == 16
    assert num_shards_for(int(2.2 * gigabyte), 6234) == 8
    assert num_shards_for(1_200 * gigabyte, 10**6) == 4096
    assert num_shards_for(120_000 * gigabyte, 10**8) == 65536
    assert num_shards_for(1000, 2) == 2


def test_tensorflow_datasets_reads_the_metadata(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    write_made_up(tmp_path / "records", num_records=5, num_shards=2)
    builder = tfds.builder_from_directory(tmp_path / "records")
    split = builder.info.splits["train"]
    assert (split.num_examples, split.num_shards) == (5, 2)
    assert all(path.exists() for path in split.filepaths)
    assert [path.name for path in split.filepaths] == [shard_name("srum-rewards", i, 2) for i in range(2)]
    region = builder.info.features["region"]
    assert region["box"].np_dtype == np.int64 and region["box"].shape == (None,)


def test_tensorflow_reads_the_records_where_it_is_installed(tmp_path):
    pytest.importorskip("tensorflow")
    tfds = pytest.importorskip("tensorflow_datasets")
    write_made_up(tmp_path / "records", num_records=5, num_shards=2)
    dataset = tfds.builder_from_directory(tmp_path / "records").as_dataset(split="train")
    ids = sorted(example["record"]["id"].numpy().decode() for example in dataset)
    assert ids == [f"image-{i}" for i in range(5)]


def test_shards_of_unequal_length_are_read_in_turns(tmp_path):
    kept = [0, 1, 2, 4, 5, 8, 11, 14]  # three shards of 1, 2 and 5 records
    write_records(tmp_path / "records", (made_up_record(i) for i in kept), num_shards=3)
    source = RecordsSource(tmp_path / "records")
    assert len(source) == len(kept)
    assert [decode_record(source.read(i)).index for i in range(len(source))] == kept
    with pytest.raises(IndexError):
        source.locate(len(kept))


def test_a_truncated_shard_is_found_at_open(tmp_path):
    write_made_up(tmp_path / "records")
    shard = tmp_path / "records" / shard_name("srum-rewards", 1, 3)
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"00001-of-00003.tfrecord: truncated: expected \d+ bytes, found \d+"):
        RecordsSource(tmp_path / "records")


@pytest.mark.parametrize("break_it, message", [
    (lambda d: (d / "manifest.json").unlink(), "manifest.json"),
    (lambda d: (d / "manifest.json").write_text("{"), "not valid JSON"),
    (lambda d: (d / "shards.jsonl").write_text("{}\n"), "checksum"),
    (lambda d: (d / "srum-rewards-00000-of-00003.tfrecord").unlink(), "no such file"),
    (lambda d: (d / "manifest.json").write_text(
        json.dumps(json.loads((d / "manifest.json").read_text()) | {"schema_version": 2})), "schema_version"),
])
def test_an_incomplete_directory_is_refused_at_open(tmp_path, break_it, message):
    write_made_up(tmp_path / "records")
    break_it(tmp_path / "records")
    with pytest.raises(DataError, match=message):
        RecordsSource(tmp_path / "records")


def test_a_missing_index_is_rebuilt_by_scanning(tmp_path):
    write_made_up(tmp_path / "records")
    for path in (tmp_path / "records").glob("*.index"):
        path.unlink()
    assert decode_record(RecordsSource(tmp_path / "records").read(4)).index == 4


def test_records_below_export_are_found(tmp_path):
    write_made_up(tmp_path / "run" / "export")
    assert len(RecordsSource(tmp_path / "run")) == 11


def test_jpeg_and_webp_keep_their_format(tmp_path):
    for format in ("jpeg", "webp"):
        assert made_up_record(0, encoded=image_bytes(0, format=format)).image_format == format


def test_a_second_writer_does_not_overwrite_what_the_first_finished(tmp_path):
    first, second = (RecordWriter(tmp_path / "records", name="x", num_shards=2) for _ in range(2))
    for writer, prompt in ((first, "a cup"), (second, "a plate")):
        writer.write(made_up_record(0, prompt=prompt))
    first.close()
    before = contents(tmp_path / "records")
    with pytest.raises(DataError, match="no overwrite"):
        second.close()
    second.discard()
    assert contents(tmp_path / "records").keys() == {name for name in before if "partial" not in name}
    assert decode_record(RecordsSource(tmp_path / "records").read(0)).prompt == "a cup"


def test_bytes_that_do_not_reach_the_disk_leave_no_records(tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        write_made_up(tmp_path / "records")
    assert not (tmp_path / "records" / "manifest.json").exists()


def _change_sidecar(folder, **changes):
    lines = [json.loads(line) for line in (folder / "shards.jsonl").read_text().splitlines()]
    lines[0] = {key: value for key, value in (lines[0] | changes).items() if value is not None}
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "shards.jsonl").write_text(text)
    return {"shards_sha256": hashlib.sha256(text.encode()).hexdigest()}


@pytest.mark.parametrize("field, value", [
    ("file", None), ("file", "../records/srum-rewards-00000-of-00003.tfrecord"), ("num_records", "4"),
    ("num_bytes", None), ("sha256", None), ("num_rejects", [1]),
])
def test_a_list_of_shards_with_wrong_fields_is_named(tmp_path, field, value):
    folder = tmp_path / "records"
    write_made_up(folder)
    manifest = json.loads((folder / "manifest.json").read_text()) | _change_sidecar(folder, **{field: value})
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=f"shards.jsonl: shard 0: field '{field}'"):
        RecordsSource(folder)


@pytest.mark.parametrize("text", [b"\xff\xfe", b"[" * 100_000, b'{"num_shards": ' + b"9" * 5000 + b"}",
                                  b'{"schema_version": 1, "name": "x", "num_shards": 1, "num_records": 1, "num_bytes": '
                                  b'1, "counts": {"rejected": [1]}, "shards_sha256": ""}'])
def test_a_broken_manifest_is_named(tmp_path, text):
    write_made_up(tmp_path / "records")
    (tmp_path / "records" / "manifest.json").write_bytes(text)
    with pytest.raises(DataError, match=r"manifest\.json"):
        RecordsSource(tmp_path / "records")


def test_only_image_decoders_are_tried_and_the_reason_is_the_same_each_time():
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n%%EOF\n"
    for encoded in (b"junk", postscript):
        with pytest.raises(ImageError, match=r"^undecodable image: expected a file of one of the kinds PNG, [^@]*$"):
            decode_image(encoded)


def test_a_place_is_used_once_and_candidates_have_their_own(tmp_path):
    with RecordWriter(tmp_path / "records", name="x", num_shards=2) as writer:
        writer.write(made_up_record(0))
        writer.write(made_up_record(0, record_id="other", candidate=1))
        with pytest.raises(SchemaError, match="record/index"):
            writer.write(made_up_record(0, record_id="third", candidate=1))


def test_an_interrupted_small_file_leaves_neither_name(tmp_path):
    with pytest.raises(KeyboardInterrupt), atomic_write(tmp_path / "a.json") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_lies_on_white(mode):
    assert np.asarray(to_rgb(Image.new(mode, (2, 2), 0))).tolist() == [[[255] * 3] * 2] * 2
