"""Ranges of a file, on the disk and in a bucket."""

import concurrent.futures
import pickle

import pytest

from srum_jax.storage import ranges
from srum_jax.storage.ranges import RangeReader
from tests.faulty_bucket import ROOT


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(200)))
    return path


@pytest.mark.parametrize("local", [True, False])
def test_a_range_is_the_same_slice_of_the_whole(path, monkeypatch, local):
    monkeypatch.setattr("srum_jax.storage.object_store.is_local", lambda path: local)
    monkeypatch.setattr(ranges, "_REQUEST_BYTES", 7)
    reader = RangeReader(path)
    assert reader.size == 200 and reader.read(3, 50) == bytes(range(3, 53)) and reader.read(0, 0) == b""
    buffer = bytearray(20)
    assert reader.read_into(memoryview(buffer), 180) == 20 and buffer == bytes(range(180, 200))


def test_a_range_beyond_the_end_of_a_local_file_is_what_there_is(path):
    reader = RangeReader(path)
    assert reader.read(190, 50) == bytes(range(190, 200)) and reader.read(300, 5) == b""


def test_readers_are_used_by_threads_closed_opened_again_and_sent_to_other_processes(path):
    reader = RangeReader(path)
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda n: reader.read(n, 1)[0], range(200))) == list(range(200))
    reader.close()
    assert pickle.loads(pickle.dumps(reader)).read(5, 1) == reader.read(5, 1) == b"\x05"


def test_an_absent_file_is_told_when_it_is_read(tmp_path, faulty):
    for path in (tmp_path / "absent", f"{ROOT}/absent"):
        with pytest.raises(FileNotFoundError):
            RangeReader(path).read(0, 1)
