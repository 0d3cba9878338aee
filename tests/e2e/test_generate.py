"""The generation command on the tiny model, in processes of its own: killed, shared between several, out of space."""

import json
import resource
import signal
import socket

import pytest

from tests import commands
from tests.generation.fakes import contents, records

COUNT = 40
SETTINGS = ("--size", "32x32", "--set", "sampler.num_timesteps=3", "--batch-size", "2", "--set",
            "output.num_shards=3", "--dtype", "float32")


def start(base, out, prompts, *arguments, begin=commands.start, **options):
    return begin("srum_jax.generate", "--checkpoint", base, "--out", out, "--prompts", prompts, *SETTINGS, *arguments,
                 **options)


def no_large_files():
    """No file may exceed 1,000 bytes, as on a disk that is full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    path = tmp_path_factory.mktemp("prompts") / "list.jsonl"
    rows = [{"prompt": f"{('two', 'three')[n % 2]} red circles"} | ({"height": 16, "width": 48} if n % 9 == 0 else {})
            for n in range(COUNT)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def whole(tiny_base, prompts, tmp_path_factory):
    """A run by one process that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "out"
    code, printed, err = start(tiny_base, out, prompts).finish()
    assert code == 0 and "complete" in printed, err
    assert len(records(out)) == COUNT
    return out


def chunks(out):
    return sorted(out.glob("generate/chunks/*/*.jsonl"))


@pytest.mark.slow
def test_a_run_that_is_killed_interrupted_terminated_and_out_of_space_ends_with_the_bytes_of_one_that_is_not(
    tiny_base, prompts, whole, tmp_path
):
    out = tmp_path / "out"
    counts = [0]
    for number, code in ((signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 130)):
        before = counts[-1]
        found, _, err = start(tiny_base, out, prompts).signal_when(lambda n=before: len(chunks(out)) > n, number)
        assert found == code, err
        assert "Traceback" not in err and ("go on" in err) == (code == 130)
        counts.append(len(chunks(out)))
    assert counts[-1] < len(chunks(whole)), "it was stopped in the middle"
    committed = {path: path.stat().st_mtime_ns for path in chunks(out)}

    anew = {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    full = start(tiny_base, out, prompts, begin=commands.start_afresh, prepare=no_large_files, env=anew)
    code, _, err = full.finish()
    assert code == 1 and "Traceback" not in err
    assert ".png: cannot be written" in err and "File too large" in err and "is intact" in err

    # Compiled anew, as on the day after.
    code, printed, err = start(tiny_base, out, prompts, env=anew).finish()
    assert code == 0 and "complete" in printed, err
    assert contents(out) == contents(whole)
    assert all(path.stat().st_mtime_ns == time for path, time in committed.items()), "nothing was made twice"


@pytest.mark.slow
def test_two_processes_make_the_folder_that_one_makes_also_if_one_runs_twice(tiny_base, prompts, whole, tmp_path):
    out = tmp_path / "out"
    processes = [start(tiny_base, out, prompts, "--process-index", str(number), "--num-processes", "2")
                 for number in (0, 1, 1)]
    for process in processes:
        code, _, err = process.finish()
        assert code == 0, err
    assert contents(out) == contents(whole)


@pytest.mark.slow
def test_a_process_that_dies_stops_no_other_and_its_share_is_made_later_by_one(tiny_base, prompts, whole, tmp_path):
    out = tmp_path / "out"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    first, second = (
        start(tiny_base, out, prompts, "--distributed", env={
            "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(number)})
        for number in range(2)
    )
    first.signal_when(lambda: (out / "run.json").exists(), signal.SIGKILL)
    code, printed, err = second.finish()
    assert code == 0 and "images of other processes are missing" in printed, err
    code, _, err = start(tiny_base, out, prompts).finish()
    assert code == 0, err
    assert contents(out) == contents(whole)


@pytest.mark.slow
def test_rows_that_cannot_be_used_are_left_out_and_the_others_are_thought_about_and_made(tiny_base, tmp_path):
    listed = tmp_path / "list.jsonl"
    listed.write_text('{"prompt": "a red circle"}\n{"prompt": ""}\n{oops\n{"prompt": "a", "image": "absent.png"}\n')
    out = tmp_path / "out"
    process = start(tiny_base, out, listed, "--on-error", "skip", "--think", "--set", "plan.max_tokens=8")
    code, printed, err = process.finish()
    assert code == 3 and "left out, bad prompt" in printed and "left out, missing image" in printed, err
    (record,) = records(out).values()
    assert record["prompt"] == "a red circle" and record["think_text"]
    summary = json.loads((out / "summary-generate.json").read_text())
    assert summary["rejected"] == {"bad_prompt": 2, "missing_image": 1} and summary["images"] == 1
