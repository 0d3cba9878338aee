"""Buckets that refuse, do not answer, or answer in part; see tests/faulty_bucket.py."""

import sys
import types

import pytest

from srum_jax.data.errors import DataError
from srum_jax.data.records_source import RecordsSource
from srum_jax.data.tfrecord import TFRecordFile, scan_offsets
from srum_jax.storage import object_store
from srum_jax.storage.atomic_file import create_bytes, file_sha256
from srum_jax.storage.errors import AccessError, WriteError
from tests.data.made_up import write_made_up
from tests.faulty_bucket import ROOT

_REQUESTS = {
    "exists": object_store.exists,
    "read_bytes": object_store.read_bytes,
    "remove": object_store.remove,
    "sizes": object_store.sizes,
    "read_range": lambda path: object_store.read_range(path, 0, 4),
    "put_bytes": lambda path: object_store.put_bytes(path, b"x"),
    "scan_offsets": scan_offsets,
    "TFRecordFile": TFRecordFile,
    "file_sha256": file_sha256,
}


@pytest.mark.parametrize("request_", _REQUESTS.values(), ids=_REQUESTS)
@pytest.mark.parametrize(("code", "kind"), [(502, OSError), (503, OSError), (401, AccessError), (403, AccessError)])
def test_whatever_a_bucket_answers_is_an_oserror_that_names_the_path(faulty, request_, code, kind):
    faulty.code = code
    with pytest.raises(kind, match=f"^{ROOT}/a: ") as raised:
        request_(ROOT / "a")
    assert isinstance(raised.value, AccessError) == (kind is AccessError)


def test_an_object_that_is_there_is_not_created_again(faulty):
    faulty.objects["run/there"] = b"x"
    assert create_bytes(ROOT / "new", b"y") and not create_bytes(ROOT / "there", b"y")
    faulty.code = 503
    with pytest.raises(WriteError, match="there"):
        create_bytes(ROOT / "there", b"y")


@pytest.mark.parametrize("code", [401, 403])
def test_records_that_may_not_be_read_are_an_error_of_the_settings_that_names_the_role(faulty, code):
    faulty.code = code
    with pytest.raises(DataError, match=rf"{ROOT}: the bucket does not let .*storage.objects.get access.*"
                                        r"roles/storage.objectViewer"):
        RecordsSource(ROOT)


def test_records_that_may_be_listed_but_not_read_are_refused_too(faulty, tmp_path, monkeypatch):
    in_bucket(faulty, tmp_path)

    def refuse(path):
        raise AccessError(f"{path}: no")

    monkeypatch.setattr(object_store, "read_bytes", refuse)
    with pytest.raises(DataError, match=r"roles/storage.objectViewer"):
        RecordsSource(ROOT)


def test_an_outage_is_no_error_of_the_records(faulty):
    faulty.code = 503
    with pytest.raises(OSError, match="no backend"):
        RecordsSource(ROOT)
    assert faulty.num_requests > 3, "the driver did not try again"


def in_bucket(service, folder):
    write_made_up(folder / "records")
    service.objects |= {f"run/{path.name}": path.read_bytes() for path in (folder / "records").iterdir()}


def test_an_answer_that_breaks_off_is_asked_for_again(faulty, tmp_path):
    in_bucket(faulty, tmp_path)
    source, expected = RecordsSource(ROOT), RecordsSource(tmp_path / "records")
    answers = iter([lambda data: data[:-3]])
    faulty.cut = lambda data: next(answers, lambda whole: whole)(data)
    assert source.read(0) == expected.read(0)


def test_an_answer_that_breaks_off_twice_is_an_outage_and_no_damaged_record(faulty, tmp_path):
    in_bucket(faulty, tmp_path)
    source = RecordsSource(ROOT)
    faulty.cut = lambda data: data[:10]
    with pytest.raises(OSError, match=rf"{ROOT}/.*: expected \d+ bytes from byte 0 on, found 10, twice"):
        source.read(0)


@pytest.mark.parametrize(("module", "name"), [("google.auth.exceptions", "TransportError"),
                                              ("aiohttp", "ClientPayloadError"), ("gcsfs.retry", "ChecksumError"),
                                              ("gcsfs.retry", "NonRetryableError")])
def test_other_errors_of_drivers_are_oserrors_too(module, name):
    kind = getattr(pytest.importorskip(module), name)
    with pytest.raises(OSError, match="gs://b/x: lost"), object_store.os_errors("gs://b/x"):
        raise kind("lost")


def test_drivers_that_nobody_imported_are_not_needed(monkeypatch):
    for module in ("gcsfs.retry", "google.auth.exceptions", "aiohttp"):
        monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
    assert object_store.driver_errors() == ()
