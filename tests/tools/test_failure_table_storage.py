"""Rows of the failure table (spec: reward stage, section 19) about disks, interruptions, several processes, records.

"clock skew, lease file unreadable | lease treated as expired; correctness unaffected": there are no leases here. Work
is split by the number of the process, and no file has a time in it. What would make a lease harmless, two processes at
work on the same unit, is tested below.
"""

import errno
import json
import resource
import signal
import subprocess
import sys
import threading
import time

import pytest

from srum_jax.data import example_proto
from srum_jax.data.tfrecord import scan_offsets
from srum_jax.stages.interruption import run_command
from srum_jax.storage import atomic_file
from tests import commands
from tests.generation.fakes import contents
from tests.tools.fakes import (
    PROMPTS,
    all_stages,
    export,
    exported,
    generated,
    judge,
    lines,
    rejects,
    scores_for,
    segment,
    set_aside,
    summary,
)
from tools.make_rewards.__main__ import main


@pytest.mark.parametrize("stage", ["segment", "judge"])
@pytest.mark.parametrize("writes", [0, 1, 2, 4, 6])
def test_disk_full_in_segment_and_judge_names_path_and_bytes_and_resume_continues(
    whole, tmp_path, monkeypatch, capsys, stage, writes
):
    """disk or quota full | temporary file removed; error naming path and bytes; committed chunks untouched; exit 1"""
    out = generated(tmp_path / "full")
    assert stage == "segment" or segment(out) == 0
    left = [writes]

    def sync_until_full(file):
        if left[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        left[0] -= 1
        file.flush()

    run = segment if stage == "segment" else lambda out: judge(out, tmp_path)
    monkeypatch.setattr(atomic_file, "sync", sync_until_full)
    assert run(out) == 1
    err = capsys.readouterr().err
    assert str(out) in err and "bytes (No space left on device)" in err and "Traceback" not in err
    monkeypatch.undo()
    committed = {path: path.stat().st_mtime_ns for path in (out / stage).rglob("*.jsonl")}
    assert not [name for name in contents(out) if ".partial" in name]
    assert len(committed) == min(max(writes - 1, 0), 3)  # after the settings; then come two done files and the summary
    assert run(out) == 0
    assert all(path.stat().st_mtime_ns == before for path, before in committed.items()), "nothing is done twice"
    assert segment(out) == 0 and judge(out, tmp_path) == 0 and export(out) == 0 and contents(out) == contents(whole)


@pytest.mark.parametrize("file_bytes", [400, 3000, 5000])
def test_disk_full_in_export_names_path_and_bytes_and_the_same_command_goes_on(
    whole, tmp_path, file_bytes
):
    """disk or quota full | temporary file removed; error naming path and bytes; committed chunks untouched; exit 1"""
    out = generated(tmp_path / "full")
    assert segment(out) == 0 and judge(out, tmp_path) == 0
    before = contents(out)
    # A true process, whose standard error is no file.
    done = subprocess.run(
        [sys.executable, "-m", "tools.make_rewards", "export", "--out", str(out), "--num-record-shards", "2"],
        cwd=commands.ROOT, capture_output=True, text=True, timeout=400,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes)))
    err = done.stderr
    assert done.returncode == 1 and "Traceback" not in err, err
    assert "cannot be written" in err and "bytes (File too large)" in err and str(out / "export") in err
    left = contents(out)
    assert {name: left[name] for name in before} == before and not (out / "export" / "manifest.json").exists()
    assert not [name for name in left if ".partial" in name]
    assert export(out, "--verify") == 0 and contents(out) == contents(whole)


def test_disk_full_at_any_small_file_of_export_leaves_no_manifest(whole, tmp_path, monkeypatch):
    """disk or quota full | temporary file removed; error naming path and bytes; committed chunks untouched; exit 1"""
    out = generated(tmp_path / "full")
    assert segment(out) == 0 and judge(out, tmp_path) == 0
    original = atomic_file.sync
    for synced in range(40):
        left = [synced]

        def sync(file, left=left):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.EDQUOT, "Disk quota exceeded")
            original(file)

        monkeypatch.setattr(atomic_file, "sync", sync)
        code = export(out)
        monkeypatch.undo()
        if code == 0:
            break
        assert code == 1 and not (out / "export" / "manifest.json").exists()
    assert 8 < synced < 39 and export(out, "--verify") == 0 and contents(out) == contents(whole)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["segment", "judge"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_interrupted_a_stage_ends_within_30_s_with_130_and_loses_only_the_open_chunk(
    whole, tmp_path, stage, number
):
    """interrupted (SIGINT, SIGTERM, preemption) | finish or drop the current batch within 30 s, ..., exit 130; ..."""
    out = generated(tmp_path / "run")
    assert stage == "segment" or segment(out) == 0
    words = {"segment": ["--provider", "components"], "judge": ["--judge", scores_for(tmp_path / "scores.jsonl")]}
    process = commands.start("tests.tools.slow_stages", 0.5, stage, "--out", out, *words[stage])
    process.wait_for(lambda: list((out / stage).rglob("*.jsonl")))
    committed = {path: path.stat().st_mtime_ns for path in (out / stage).rglob("0*.jsonl")}
    asked = time.monotonic()
    process.send_signal(number)
    code, _, err = process.finish(within=30)
    assert code == 130 and time.monotonic() - asked < 30 and "what was finished is kept" in err
    assert segment(out) == 0 and judge(out, tmp_path) == 0 and export(out, "--verify") == 0
    assert all(path.stat().st_mtime_ns == before for path, before in committed.items())
    assert contents(out) == contents(whole)


@pytest.mark.slow
def test_interrupted_inside_a_computation_that_hears_no_signal_a_command_still_ends_in_time():
    """interrupted (SIGINT, SIGTERM, preemption) | finish or drop the current batch within 30 s, ..., exit 130; ..."""
    text = ("import hashlib\nfrom srum_jax.stages.interruption import ends_in_time\n"
            "with ends_in_time(1.0):\n    print('now', flush=True)\n"
            "    hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)")
    process = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "now\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "what was finished is kept" in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_interrupted_inside_a_finalizer_that_swallows_exceptions_a_command_still_ends(number, capsys):
    """interrupted (SIGINT, SIGTERM, preemption) | finish or drop the current batch within 30 s, ..., exit 130; ..."""
    class Finalized:
        def __del__(self):
            signal.raise_signal(number)

    def work():
        Finalized()
        threading.Event().wait(30)

    previous = signal.signal(signal.SIGINT, signal.default_int_handler)  # workers of pytest-xdist ignore it
    try:
        assert run_command(work) == 130
    finally:
        signal.signal(signal.SIGINT, previous)
    assert "what was finished is kept" in capsys.readouterr().err


@pytest.mark.slow
def test_two_workers_on_one_shard_write_no_duplicate_records(whole, tmp_path):
    """two workers on one shard | section 17; no duplicate records"""
    out = generated(tmp_path / "run")
    scores = scores_for(tmp_path / "scores.jsonl")
    for words in (["segment", "--provider", "components"], ["judge", "--judge", scores],
                  ["export", "--num-record-shards", "2"]):
        both = [commands.start("tests.tools.slow_stages", 0.2, *words, "--out", out) for _ in range(2)]
        codes = [process.finish().code for process in both]
        assert 0 in codes and set(codes) <= {0, 1}, codes  # of two exports, the later one may find the other's files
    assert export(out, "--verify") == 0
    assert len(lines(out, "judge")) == len(exported(out)) == 5
    assert {name: data for name, data in contents(out).items() if ".partial" not in name} == contents(whole)


def test_two_workers_on_one_shard_take_turns_with_a_temporary_name(tmp_path, monkeypatch):
    """two workers on one shard | section 17; no duplicate records"""
    code = ("import sys, time\nfrom srum_jax.stages.folder import StageFolder\n"
            "from srum_jax.storage import atomic_file\nplain = atomic_file.sync\n"
            "def slow(file):\n    file.flush(); time.sleep(0.3); plain(file)\natomic_file.sync = slow\n"
            "f = StageFolder(sys.argv[1], 'generate', 1)\nfor _ in range(3): f.write(f.root / 'a', b'0123456789')")
    processes = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.PIPE)
                 for _ in range(3)]
    while any(process.poll() is None for process in processes):
        assert not (tmp_path / "a").exists() or (tmp_path / "a").read_bytes() == b"0123456789"
        time.sleep(0.005)
    assert [process.communicate()[1] for process in processes] == [b""] * 3
    assert contents(tmp_path) == {"a": b"0123456789"}


def test_shard_file_present_and_sidecar_missing_the_sidecar_is_recomputed_by_scanning(whole, capsys):
    """shard file present, sidecar missing | recompute the sidecar by scanning; CRC errors -> error naming the offset"""
    before = contents(whole)
    shard = sorted((whole / "export").glob("*.tfrecord"))[1]
    for lost in (".json", ".tfrecord.index"):
        shard.with_name(shard.stem + lost).unlink()
    (whole / "export" / "shards.jsonl").unlink()
    assert main(["verify", str(whole)]) == 1
    assert export(whole) == 1 and "the checksums of this shard are lost" in capsys.readouterr().err
    (whole / "export" / "shards.jsonl").write_bytes(before["export/shards.jsonl"])
    assert main(["verify", str(whole)]) == 1
    assert f"{shard.stem}.json: no such file" in capsys.readouterr().err
    assert export(whole) == 0 and contents(whole) == before
    (whole / "export" / "shards.jsonl").unlink()
    assert export(whole, "--verify") == 0 and contents(whole) == before


def test_shard_file_present_and_sidecar_missing_a_crc_error_names_the_record_offset(whole, capsys):
    """shard file present, sidecar missing | recompute the sidecar by scanning; CRC errors -> error naming the offset"""
    shard = sorted((whole / "export").glob("*.tfrecord"))[0]
    offset = int(scan_offsets(shard)[1])
    data = bytearray(shard.read_bytes())
    data[offset + 40] ^= 1
    shard.write_bytes(data)
    shard.with_suffix(".json").unlink()
    assert export(whole) == 1
    assert f"record 1: checksum of the payload does not hold (at byte {offset})" in capsys.readouterr().err
    assert main(["verify", str(whole)]) == 1 and f"(at byte {offset})" in capsys.readouterr().err


def test_manifest_present_but_counts_differ_verify_lists_the_differences_and_exits_1(whole, capsys):
    """manifest present but counts differ | `--verify` lists the differences, exit 1"""
    path = whole / "export" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["num_records"] += 1
    manifest["counts"] |= {"candidates": 7, "rejected": {"no_region": 1}}
    path.write_text(json.dumps(manifest))
    for words in (["verify", str(whole)], ["verify", str(whole / "export")],
                  ["export", "--out", str(whole), "--verify"]):
        assert main(words) == 1
        err = capsys.readouterr().err
        assert "num_records: expected 6, found 5" in err and "expected 7" in err


def test_settings_changed_on_resume_are_an_error_listing_the_differences(whole, tmp_path, capsys):
    """settings changed on resume | error listing the differences (of generate: tests/generation/test_runner.py,
    test_a_folder_that_was_begun_with_something_else_is_refused_with_the_difference)"""
    before = contents(whole)
    for run, difference in (
        (lambda: segment(whole, "--min-area", "3"), "min_area: the folder 0, this command 3"),
        (lambda: judge(whole, tmp_path, "--set", "judge.max_attempts=2"),
         "settings.max_attempts: the folder 5, this command 2"),
        (lambda: export(whole, "--preset", "official"), 'rules.global_zero: the folder "keep", this command "drop"'),
    ):
        assert run() == 2
        assert difference in capsys.readouterr().err and contents(whole) == before


def test_record_larger_than_2_gb_is_a_schema_error_and_the_others_are_exported(tmp_path, monkeypatch):
    """record larger than 2 GB | `schema_error` (with a smaller limit)"""
    out = generated(tmp_path / "run")
    scores = scores_for(tmp_path / "s.jsonl", PROMPTS[:4])
    with (tmp_path / "s.jsonl").open("a") as file:
        file.write(json.dumps({"record_id": "set-4-c00", "regions": [
            {"box": [0, 0, 9, 9], "score": 0.5, "object": "x" * 9000}]}) + "\n")
    monkeypatch.setattr(example_proto, "MAX_RECORD_BYTES", 9000)
    assert all_stages(out, scores) == 0
    assert rejects(out) == {"set-4-c00": "schema_error"} and summary(out, "export")["exported"] == 4


@pytest.mark.parametrize("stage", ["segment", "judge", "export"])
def test_counted_means_exit_code_3_if_the_rejected_share_exceeds_the_rate(tmp_path, capsys, stage):
    """"Counted" = one line in rejects or warnings, in the summary, and exit code 3 if the rejected share exceeds ..."""
    out = generated(tmp_path / "run")
    for path in sorted((out / "generate").rglob("*.png"))[:2]:
        path.unlink()
    stages = {"segment": segment, "judge": lambda out, *more: judge(out, tmp_path, *more), "export": export}
    for name in list(stages)[: list(stages).index(stage)]:
        assert stages[name](out, "--max-reject-rate", "0.4") == 0
    assert stages[stage](out) == 3
    assert "2 of 5 images were rejected, more than --max-reject-rate 0.2 allows" in capsys.readouterr().err
    assert stages[stage](out, "--max-reject-rate", "0.4") == 0
    with pytest.raises(SystemExit, match="2"):
        stages[stage](out, "--max-reject-rate", "1.4")


@pytest.mark.parametrize("stage", ["segment", "judge"])
def test_redo_sets_the_chunks_of_some_shards_aside_with_what_later_stages_made_of_them(
    whole, tmp_path, capsys, stage
):
    """--redo 3,7 (spec: reward stage, section 20)"""
    before = contents(whole)
    redo = segment if stage == "segment" else lambda out, *more: judge(out, tmp_path, *more)
    for wrong in ("2", "a", "1-", "1-0", ""):
        assert redo(whole, "--redo", wrong) == 2
        assert "--redo: expected numbers of shards from 0 to 1" in capsys.readouterr().err
    assert contents(whole) == before
    others = {path: path.stat().st_mtime_ns for path in (whole / stage / "chunks" / "00000-of-00002").iterdir()}
    assert redo(whole, "--redo", "1") == 0
    assert all(path.stat().st_mtime_ns == when for path, when in others.items())
    moved = [name for name in set_aside(whole) if "/chunks/" in name]
    assert {name.split("/")[2] for name in moved} == {"00001-of-00002"}
    assert {name.split("/")[0] for name in moved} == ({"segment", "judge"} if stage == "segment" else {"judge"})
    assert judge(whole, tmp_path) == 0 and export(whole, "--verify") == 0 and contents(whole) == before
