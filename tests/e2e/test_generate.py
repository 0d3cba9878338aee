"""The generation command on the tiny model, in processes of its own: killed, shared between several, out of space."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys

import pytest

from tests.e2e.command import ROOT, finish, signal_when
from tests.generation.fakes import contents, records

COUNT = 40
SETTINGS = ("--size", "32x32", "--num-timesteps", "3", "--batch-size", "2", "--num-shards", "3", "--dtype", "float32")


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory):
    """All processes of this file share what the first of them compiles."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("compiled")))
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
        yield


def start(base, out, prompts, *arguments, file_bytes=None, **environment):
    """Starts the command; `file_bytes` is the size that no file may exceed, as on a disk that is full."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "PJRT_NPROC")}
    command = [sys.executable, "-m", "srum_jax.generate", "--checkpoint", str(base), "--out", str(out),
               "--prompts", str(prompts), *SETTINGS, *arguments]
    limit = None if file_bytes is None else lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    return subprocess.Popen(command, cwd=ROOT, env=inherited | {"JAX_PLATFORMS": "cpu"} | environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=limit)


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    path = tmp_path_factory.mktemp("prompts") / "list.jsonl"
    rows = [{"prompt": f"{('two', 'three')[n % 2]} red circles"} | ({"height": 16, "width": 48} if n % 9 == 0 else {})
            for n in range(COUNT)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def whole(tiny_base, prompts, tmp_path_factory, compiled_once):
    """A run by one process that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "out"
    code, printed, err = finish(start(tiny_base, out, prompts))
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
        found, _, err = signal_when(start(tiny_base, out, prompts), lambda n=before: len(chunks(out)) > n, number)
        assert found == code, err
        assert "Traceback" not in err and ("go on" in err) == (code == 130)
        counts.append(len(chunks(out)))
    assert counts[-1] < len(chunks(whole)), "it was stopped in the middle"
    committed = {path: path.stat().st_mtime_ns for path in chunks(out)}

    code, _, err = finish(start(tiny_base, out, prompts, file_bytes=1000))
    assert code == 1 and "Traceback" not in err
    assert ".png: cannot be written" in err and "File too large" in err and "what was committed is intact" in err

    # Compiled anew, as on the day after.
    code, printed, err = finish(start(tiny_base, out, prompts, JAX_ENABLE_COMPILATION_CACHE="false"))
    assert code == 0 and "complete" in printed, err
    assert contents(out) == contents(whole)
    assert all(path.stat().st_mtime_ns == time for path, time in committed.items()), "nothing was made twice"


@pytest.mark.slow
def test_two_processes_make_the_folder_that_one_makes(tiny_base, prompts, whole, tmp_path):
    out = tmp_path / "out"
    processes = [start(tiny_base, out, prompts, "--process-index", str(number), "--num-processes", "2")
                 for number in range(2)]
    for process in processes:
        code, _, err = finish(process)
        assert code == 0, err
    assert contents(out) == contents(whole)


@pytest.mark.slow
def test_a_process_that_dies_stops_no_other_and_its_share_is_made_later_by_one(tiny_base, prompts, whole, tmp_path):
    out = tmp_path / "out"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    first, second = (
        start(tiny_base, out, prompts, "--distributed", JAX_COORDINATOR_ADDRESS=f"127.0.0.1:{port}",
              JAX_NUM_PROCESSES="2", JAX_PROCESS_ID=str(number)) for number in range(2)
    )
    signal_when(first, lambda: (out / "run.json").exists(), signal.SIGKILL)
    code, printed, err = finish(second)
    assert code == 0 and "images of other processes are missing" in printed, err
    code, _, err = finish(start(tiny_base, out, prompts))
    assert code == 0, err
    assert contents(out) == contents(whole)


@pytest.mark.slow
def test_rows_that_cannot_be_used_are_left_out_and_the_others_are_thought_about_and_made(tiny_base, tmp_path):
    listed = tmp_path / "list.jsonl"
    listed.write_text('{"prompt": "a red circle"}\n{"prompt": ""}\n{oops\n{"prompt": "a", "image": "absent.png"}\n')
    out = tmp_path / "out"
    process = start(tiny_base, out, listed, "--on-error", "skip", "--think", "--max-plan-tokens", "8")
    code, printed, err = finish(process)
    assert code == 3 and "left out, bad prompt" in printed and "left out, missing image" in printed, err
    (record,) = records(out).values()
    assert record["prompt"] == "a red circle" and record["think_text"]
    summary = json.loads((out / "summary-generate.json").read_text())
    assert summary["rejected"] == {"bad_prompt": 2, "missing_image": 1} and summary["images"] == 1
