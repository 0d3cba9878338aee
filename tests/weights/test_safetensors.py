"""The safetensors reader and writer, against the format's own library and against hostile files."""

import errno
import json
import os
import struct

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file, save_file

from srum_jax.weights import safetensors_read
from srum_jax.weights.dtypes import DTYPES
from srum_jax.weights.errors import WeightsError
from srum_jax.weights.safetensors_read import SafetensorsFile
from srum_jax.weights.safetensors_write import SafetensorsWriter


def pack(header, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def write_all(path, arrays, metadata=None):
    with SafetensorsWriter(path, {n: (a.dtype, a.shape) for n, a in arrays.items()}, metadata) as writer:
        for name, array in arrays.items():
            writer.write(name, array)


arrays_strategy = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
        lambda n: n != "__metadata__"
    ),
    hnp.arrays(
        dtype=st.sampled_from([np.float32, np.float16, np.int32, np.uint8, np.float64]),
        shape=hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    ),
    max_size=4,
)


@settings(max_examples=50, deadline=None)
@given(arrays=arrays_strategy)
def test_written_files_are_read_back_byte_equal_by_us_and_by_the_library(tmp_path_factory, arrays):
    path = tmp_path_factory.mktemp("files") / "x.safetensors"
    write_all(path, arrays, {"format": "pt"})
    ours = SafetensorsFile(path)
    theirs = load_file(path)
    assert set(ours.tensors) == set(theirs) == set(arrays)
    for name, array in arrays.items():
        for found in (ours.read(name), theirs[name]):
            assert (
                found.dtype == array.dtype
                and found.shape == array.shape
                and found.tobytes() == array.tobytes()
            )
    assert ours.metadata == {"format": "pt"}


@settings(max_examples=100, deadline=None)
@given(data=st.data(), shape=hnp.array_shapes(min_dims=1, max_dims=4, max_side=5))
def test_any_region_equals_the_same_slice_of_the_whole(tmp_path_factory, data, shape):
    array = np.arange(np.prod(shape)).astype(ml_dtypes.bfloat16).reshape(shape)
    path = tmp_path_factory.mktemp("files") / "x.safetensors"
    save_file({"x": array}, path)
    region = tuple(slice(*sorted(data.draw(st.tuples(*[st.integers(0, size)] * 2)))) for size in shape)
    for short_row in (1, 2**20):  # with rows that count as long, and as short
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(safetensors_read, "_SHORT_ROW_BYTES", short_row)
            patch.setattr(safetensors_read, "_BLOCK_BYTES", 16)
            found = SafetensorsFile(path).read("x", region)
        np.testing.assert_array_equal(found.view(np.uint16), array[region].view(np.uint16))
        assert found.flags.c_contiguous


def test_a_file_object_reads_the_same_as_a_local_file(tmp_path, monkeypatch):
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    save_file({"x": array}, tmp_path / "x.safetensors")
    monkeypatch.setattr("srum_jax.storage.object_store.is_local", lambda path: False)
    file = SafetensorsFile(tmp_path / "x.safetensors")
    np.testing.assert_array_equal(file.read("x", (slice(1, 2), slice(0, 3), slice(1, 3))), array[1:2, :, 1:3])


def test_a_region_of_leading_rows_reads_no_other_bytes(tmp_path):
    array = np.zeros((4, 1024, 512), np.float32)
    save_file({"x": array}, tmp_path / "x.safetensors")
    file = SafetensorsFile(tmp_path / "x.safetensors")
    counted = []
    original = file._bytes.read_into
    file._bytes.read_into = lambda buffer, offset: (counted.append(len(buffer)), original(buffer, offset))[1]
    file.read("x", (slice(1, 3), slice(128, 256)))
    assert sum(counted) == 2 * 128 * 512 * 4


@pytest.mark.parametrize("seed", range(3))
def test_regions_may_be_written_in_any_order(tmp_path, seed):
    rng = np.random.default_rng(seed)
    array = rng.standard_normal((4, 6, 5)).astype(np.float32)
    regions = [(slice(a, a + 2), slice(b, b + 3)) for a in (0, 2) for b in (0, 3)]
    rng.shuffle(regions)
    with SafetensorsWriter(tmp_path / "x.safetensors", {"x": (array.dtype, array.shape)}) as writer:
        for region in regions:
            writer.write("x", array[*region], tuple(region))
    np.testing.assert_array_equal(load_file(tmp_path / "x.safetensors")["x"], array)


def test_a_tensor_that_was_not_written_completely_leaves_no_file(tmp_path):
    with pytest.raises(WeightsError, match=r"'x' \(2 values short\)"):
        with SafetensorsWriter(tmp_path / "x.safetensors", {"x": (np.float32, (4,))}) as writer:
            writer.write("x", np.zeros(2, np.float32), (slice(0, 2),))
    assert not list(tmp_path.iterdir())


def test_an_exception_while_writing_leaves_no_file(tmp_path):
    with (
        pytest.raises(KeyboardInterrupt),
        SafetensorsWriter(tmp_path / "x.safetensors", {"x": (np.float32, (4,))}),
    ):
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
BAD_FILES = {
    "empty": (b"", "at least 8 bytes, found 0"),
    "too short": (b"abc", "at least 8 bytes, found 3"),
    "pickle": (b"\x80\x04\x95\x10\x00\x00\x00\x00" + b"\x00" * 99, "not a safetensors file"),
    "zip": (b"PK\x03\x04\x14\x00\x00\x00" + b"\x00" * 99, "not a safetensors file"),
    "header length beyond the limit": (
        struct.pack("<Q", 2**63) + b"{}",
        "header of 9223372036854775808 bytes",
    ),
    "header length beyond the file": (
        struct.pack("<Q", 100) + b"{}",
        "header needs 108 bytes, the file has 10",
    ),
    "not an object": (pack(b"[1]"), "expected a header that starts with"),
    "broken JSON": (pack(b'{"x": '), "not valid JSON"),
    "not UTF-8": (pack(b'{"\xff": 1}'), "not valid JSON"),
    "nested too deeply": (pack(b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "nested too deeply"),
    "integer of a million digits": (pack(b'{"x":' + b"9" * 1_000_000 + b"}"), "not valid JSON"),
    "metadata not strings": (pack({"__metadata__": {"a": 1}}), "'__metadata__'"),
    "entry not an object": (pack({"x": 3}), "'x': expected a dtype"),
    "field missing": (pack({"x": {"dtype": "F32", "shape": [2]}}), "'x': expected a dtype"),
    "unknown dtype": (pack({"x": ENTRY | {"dtype": "F7"}}, b"\0" * 8), "'x': expected a dtype"),
    "dtype not a string": (pack({"x": ENTRY | {"dtype": ["F32"]}}, b"\0" * 8), "'x': expected a dtype"),
    "negative shape": (pack({"x": ENTRY | {"shape": [-2]}}, b"\0" * 8), "'x': expected a dtype"),
    "boolean shape": (pack({"x": ENTRY | {"shape": [True]}}, b"\0" * 8), "'x': expected a dtype"),
    "shape that overflows": (
        pack({"x": ENTRY | {"shape": [2**61, 8]}}, b"\0" * 8),
        "'x': expected a dtype",
    ),
    "too many dimensions": (pack({"x": ENTRY | {"shape": [1] * 99}}, b"\0" * 8), "'x': expected a dtype"),
    "offsets reversed": (pack({"x": ENTRY | {"data_offsets": [8, 0]}}, b"\0" * 8), "'x': expected a dtype"),
    "offsets of another size": (pack({"x": ENTRY | {"data_offsets": [0, 4]}}, b"\0" * 4), "'x': expected a dtype"),
    "overlap": (pack({"x": ENTRY, "y": ENTRY | {"data_offsets": [4, 12]}}, b"\0" * 12), "'y': expected to begin"),
    "gap": (pack({"x": ENTRY | {"data_offsets": [4, 12]}}, b"\0" * 12), "'x': expected to begin"),
    "truncated data": (pack({"x": ENTRY}, b"\0" * 5), "which end in tensor 'x'"),
    "trailing data": (pack({"x": ENTRY}, b"\0" * 9), "1 bytes behind the last tensor"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_malformed_file_is_refused_with_its_name_and_the_reason(tmp_path, case):
    content, reason = BAD_FILES[case]
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        SafetensorsFile(path)
    assert str(path) in str(caught.value) and reason in str(caught.value)


def test_an_absent_file_and_a_directory_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="no such file"):
        SafetensorsFile(tmp_path / "absent.safetensors")
    with pytest.raises(WeightsError, match="found a directory"):
        SafetensorsFile(tmp_path)


def test_every_truncation_of_a_file_is_refused(tmp_path):
    save_file({"x": np.arange(4, dtype=np.float32), "y": np.ones((2, 2), np.float16)}, tmp_path / "whole")
    content = (tmp_path / "whole").read_bytes()
    for length in range(len(content)):
        (tmp_path / "cut").write_bytes(content[:length])
        with pytest.raises(WeightsError):
            SafetensorsFile(tmp_path / "cut")


@settings(max_examples=300, deadline=None)
@given(edits=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6))
def test_random_corruption_of_a_header_gives_the_proper_error_or_a_consistent_file(tmp_path_factory, edits):
    directory = tmp_path_factory.mktemp("files")
    save_file(
        {"a.b": np.arange(6, dtype=np.float32).reshape(2, 3), "c": np.ones(3, np.float16)}, directory / "x"
    )
    content = bytearray((directory / "x").read_bytes())
    header_end = 8 + int.from_bytes(content[:8], "little")
    for position, value in edits:
        content[position % header_end] = value
    (directory / "x").write_bytes(content)
    try:
        file = SafetensorsFile(directory / "x")
    except WeightsError as error:
        assert str(directory / "x") in str(error)
        return
    for name, entry in file.tensors.items():
        assert file.read(name).shape == entry.shape


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=64), length=st.integers(0, 80))
def test_random_bytes_give_the_proper_error_or_an_empty_file(tmp_path_factory, content, length):
    path = tmp_path_factory.mktemp("files") / "x"
    path.write_bytes(struct.pack("<Q", length) + content)
    try:
        assert not SafetensorsFile(path).tensors
    except WeightsError:
        pass


def test_all_dtypes_of_the_table_agree_with_the_library(tmp_path):
    for name, dtype in DTYPES.items():
        if name.startswith("F8"):
            continue  # the library's numpy side does not write them
        save_file({"x": np.zeros(3, dtype)}, tmp_path / "x")
        assert SafetensorsFile(tmp_path / "x").tensors["x"].dtype == dtype


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path):
    save_file({"x": np.zeros(1000, np.float32)}, tmp_path / "x")
    file = SafetensorsFile(tmp_path / "x")
    with open(tmp_path / "x", "r+b") as opened:
        opened.truncate(200)
    with pytest.raises(WeightsError, match="became shorter"):
        file.read("x")


def test_the_whole_file_is_reserved_before_anything_is_written(tmp_path):
    # A disk that fills up under a write through the memory map would end the process by SIGBUS.
    with SafetensorsWriter(tmp_path / "a.safetensors", {"a": (np.dtype(np.float32), (1024, 256))}) as writer:
        (partial,) = tmp_path.iterdir()
        stored = partial.stat()
        assert partial.suffix != ".safetensors", "nothing would take it for weights"
        assert stored.st_blocks * 512 >= stored.st_size >= 2**20
        writer.write("a", np.ones((1024, 256), np.float32))


def test_a_full_disk_leaves_no_file(tmp_path, monkeypatch):
    def fail(descriptor, offset, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", fail)
    with pytest.raises(OSError, match="No space left"):
        SafetensorsWriter(tmp_path / "a.safetensors", {"a": (np.dtype(np.float32), (4,))})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ['{"__metadata__": [1]}', '{"__metadata__": {"a": "\\ud800"}}',
                                  '{"\\ud800": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}'])
def test_text_that_could_not_be_written_again_is_refused(tmp_path, text):
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text.encode())
    with pytest.raises(WeightsError, match=r"__metadata__|Unicode"):
        SafetensorsFile(path)
