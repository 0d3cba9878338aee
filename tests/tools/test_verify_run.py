"""`verify` of a whole run, and `export --verify`: every prompt and candidate once, and all checksums."""

import dataclasses
import json
import shutil

import pytest

from srum_jax.data.records_source import read_manifest
from srum_jax.data.writer import RecordWriter
from srum_jax.generation.prompts import read_jsonl, to_jsonl
from tests.tools.fakes import all_stages, export, exported, generated, image_path, rejects, scores_for
from tools.make_rewards.__main__ import main


@pytest.fixture
def partly(tmp_path):
    """A run of which one image became no record."""
    out = generated(tmp_path / "partly")
    image_path(out, 4).unlink()
    assert all_stages(out, scores_for(tmp_path / "scores.jsonl")) == 0
    assert rejects(out) == {"set-4-c00": "missing_image"}
    return out


def verify(path, capsys):
    """Exit code and what is wrong."""
    code = main(["verify", str(path)])
    return code, capsys.readouterr().err


def test_a_run_is_accounted_for(whole, partly, capsys):
    for out in (whole, partly):
        assert main(["verify", str(out)]) == 0
        assert "all prompts and candidates are accounted for once" in capsys.readouterr().out
        assert export(out, "--verify") == 0
        assert "prompts x candidates = exported + rejected" in capsys.readouterr().out
        assert main(["verify", str(out / "export")]) == 0


def rewrite(out, change):
    """Writes the records of a run anew, as consistent among themselves as `export` does."""
    records = sorted(change(exported(out)), key=lambda record: (record.index, record.candidate))
    manifest = read_manifest(out / "export")
    shutil.rmtree(out / "export")
    with RecordWriter(out / "export", name=manifest.name, num_shards=2) as writer:
        for record in records:
            writer.write(record)
        writer.reject(4, "missing_image")
        writer.close(num_prompts=5)


def without(name):
    return lambda records: [record for key, record in records.items() if key != name]


def test_a_record_that_is_neither_exported_nor_rejected_is_found(partly, capsys):
    rewrite(partly, without("set-2-c00"))
    assert main(["verify", str(partly / "export")]) == 0, "among themselves the records are whole"
    code, err = verify(partly, capsys)
    assert code == 1 and "prompt with index 2, candidate 0: expected once, is not exported nor rejected" in err
    assert "counts.exported: " not in err and "counts.candidates: expected 5, from the run, found 4" in err


def test_a_record_of_nothing_that_was_asked_for_is_found(partly, capsys):
    rewrite(partly, lambda records: [*records.values(), dataclasses.replace(
        records["set-0-c00"], record_id="set-9-c00", index=9)])
    code, err = verify(partly, capsys)
    assert code == 1 and "set-9-c00: no such prompt and candidate in prompts.jsonl" in err


def test_a_record_with_another_image_than_the_generated_one_is_found(partly, capsys):
    def change(records):
        first, second = records["set-0-c00"], records["set-1-c00"]
        names = ("image_encoded", "image_sha256")
        records["set-0-c00"] = dataclasses.replace(first, **{name: getattr(second, name) for name in names})
        return records.values()

    rewrite(partly, change)
    code, err = verify(partly, capsys)
    assert code == 1 and "set-0-c00: image/sha256: is not that of the generated image" in err


@pytest.mark.parametrize(("damage", "message"), [
    (lambda out: image_path(out, 0).unlink(), "set-0-c00.png: recorded, but not there"),
    (lambda out: image_path(out, 0).write_bytes(b"x"), "set-0-c00.png: checksum: expected"),
    (lambda out: (out / "rejects" / "export-00000-of-00001.jsonl").write_text(""),
     "prompt with index 4, candidate 0: expected once, is not exported nor rejected"),
    (lambda out: (out / "rejects" / "export-00000-of-00001.jsonl").unlink(), "no such file; `export` lists there"),
    (lambda out: append(out / "rejects" / "export-00000-of-00001.jsonl", "{}\n"), "expected a rejected image"),
    (lambda out: double(out / "rejects" / "export-00000-of-00001.jsonl"), "set-4-c00: is rejected twice"),
    (lambda out: reject_too(out, 1), "set-1-c00: is exported and rejected"),
    (lambda out: (out / "prompts.jsonl").write_bytes(to_jsonl(read_jsonl(out / "prompts.jsonl")[:4])),
     "prompts.jsonl: checksum: expected"),
    (lambda out: double(sorted((out / "generate" / "chunks").rglob("*.jsonl"))[0]), "set-0-c00: is recorded twice"),
    (lambda out: next((out / "export").glob("*00001-of-00002.json")).write_text("{}"),
     "differs from its line in shards.jsonl"),
])
def test_damage_anywhere_in_a_run_is_named(partly, capsys, damage, message):
    damage(partly)
    code, err = verify(partly, capsys)
    assert code == 1 and message in err, err
    assert export(partly, "--verify") == 1


def append(path, text):
    with path.open("a") as file:
        file.write(text)


def double(path):
    path.write_text(path.read_text() * 2)


def reject_too(out, number):
    path = out / "rejects" / "export-00000-of-00001.jsonl"
    line = json.loads(path.read_text()) | {"record_id": f"set-{number}-c00", "index": number}
    append(path, json.dumps(line) + "\n")


def test_a_run_without_records_is_an_error(tmp_path, capsys):
    out = generated(tmp_path / "run")
    code, err = verify(out, capsys)
    assert code == 1 and "no manifest.json" in err
