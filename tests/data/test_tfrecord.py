import pathlib
import pickle
import struct
import tempfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srum_jax.data.errors import DataError
from srum_jax.data.tfrecord import TFRecordFile, frame, masked_crc32c, scan_offsets, unframe


def write_file(path, payloads, index=True):
    data = b"".join(frame(payload) for payload in payloads)
    path.write_bytes(data)
    if index:
        ends = np.cumsum([0] + [len(payload) + 16 for payload in payloads]).astype("<u8")
        (path.parent / f"{path.name}.index").write_bytes(ends.tobytes())
    return path


def test_masked_checksum_has_the_published_value():
    # CRC-32C of "123456789" is e3069283.
    crc = 0xE3069283
    assert masked_crc32c(b"123456789") == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def test_frame_is_length_checksum_payload_checksum():
    framed = frame(b"abc")
    assert struct.unpack_from("<Q", framed)[0] == 3
    assert framed[12:15] == b"abc"
    assert len(framed) == 3 + 16


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.data())
def test_any_flipped_bit_of_a_record_is_found(payload, data):
    framed = bytearray(frame(payload))
    bit = data.draw(st.integers(0, 8 * len(framed) - 1))
    framed[bit // 8] ^= 1 << (bit % 8)
    with pytest.raises(DataError, match="record 7"):
        unframe(bytes(framed), "shard", 7, 100)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=50), max_size=8))
def test_records_read_back_in_any_order(payloads):
    with tempfile.TemporaryDirectory() as folder:
        for index in (True, False):
            path = write_file(pathlib.Path(folder) / f"{index}.tfrecord", payloads, index)
            file = pickle.loads(pickle.dumps(TFRecordFile(path)))
            assert [file[i] for i in reversed(range(len(file)))] == payloads[::-1]
            file.close()


@pytest.mark.parametrize("index", [True, False])
def test_a_truncated_file_is_found_when_it_is_opened(tmp_path, index):
    path = write_file(tmp_path / "a.tfrecord", [b"one", b"two", b"three"], index)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DataError, match="truncated"):
        TFRecordFile(path)


def test_an_index_of_another_file_is_found(tmp_path):
    path = write_file(tmp_path / "a.tfrecord", [b"one", b"two"])
    offsets = np.asarray([0, 20, 38], "<u8")
    (tmp_path / "a.tfrecord.index").write_bytes(offsets.tobytes())
    with pytest.raises(DataError):
        TFRecordFile(path)[0]


def test_scanning_gives_the_offsets_of_the_index(tmp_path):
    path = write_file(tmp_path / "a.tfrecord", [b"", b"12345", b"x" * 1000])
    stored = np.frombuffer((tmp_path / "a.tfrecord.index").read_bytes(), "<u8")
    np.testing.assert_array_equal(scan_offsets(path), stored)


def test_a_file_that_is_not_local_is_read_by_ranges(tmp_path, monkeypatch):
    path = write_file(tmp_path / "a.tfrecord", [b"one", b"two"])
    monkeypatch.setattr("srum_jax.storage.object_store.is_local", lambda path: False)
    assert TFRecordFile(path)[1] == b"two"


@pytest.mark.parametrize("offsets", [[0, 2**63 + 5, 38], [0, 2**40, 38], [0, 39, 38], [2**62, 2**63, 38], [0, 3, 38]])
def test_an_index_that_points_outside_the_file_is_a_damaged_record(tmp_path, offsets):
    path = write_file(tmp_path / "a.tfrecord", [b"one", b"two"])
    (tmp_path / "a.tfrecord.index").write_bytes(np.asarray(offsets, "<u8").tobytes())
    with pytest.raises(DataError, match="record 0: index gives offsets"):
        TFRecordFile(path)[0]
