"""Runs on a pretended pod: restarts, signals, stopping, watching, and the one command that keeps it all going."""

import contextlib
import fcntl
import os
import pathlib
import shutil
import signal
import subprocess

import pytest

from tests.tools.fake_cloud import SCRIPTS, FakeCloud
from tests.tools.pretended_pod import COMMAND, TRAIN, do, plan, read, state, wait_for


class Supervised:
    """supervise.sh and its command in one directory."""

    def __init__(self, place: pathlib.Path):
        self.place, self.folder, self.started = place, place / "runs" / "train", []
        (place / "command.sh").write_text(COMMAND)

    def start(self, *plan: str, options: tuple[str, ...] = ()) -> subprocess.Popen:
        (self.place / "plan").write_text("".join(f"{step}\n" for step in plan))
        process = subprocess.Popen(
            ["bash", str(SCRIPTS / "supervise.sh"), "--folder", str(self.folder), "--delay", "0", *options, "--",
             "bash", str(self.place / "command.sh"), "two words"],
            env=os.environ | {"PLACE": str(self.place)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True)
        self.started.append(process)
        return process

    def run(self, *plan: str, options: tuple[str, ...] = ()) -> int:
        process = self.start(*plan, options=options)
        self.output = process.communicate(timeout=60)[0]
        return process.returncode

    @property
    def state(self) -> str:
        return read(self.folder / "state").strip()

    @property
    def log(self) -> str:
        return read(self.folder / "log.txt")

    @property
    def starts(self) -> list[str]:
        return read(self.place / "starts").splitlines()


@pytest.fixture
def supervised(tmp_path):
    found = Supervised(tmp_path)
    yield found
    for process in found.started:  # a failed test leaves no command behind
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_command_that_finishes_is_not_started_again(supervised):
    assert supervised.run("done", "done") == 0
    assert supervised.starts == ["two words"] and supervised.state == "finished"
    assert "done after step 4" in supervised.log


def test_crashes_kills_and_preemption_notices_are_followed_by_another_start(supervised):
    assert supervised.run("1", "kill", "asked", "134", "2", "done") == 0
    assert len(supervised.starts) == 6 and supervised.state == "finished"
    assert [line.split("exit code ")[1] for line in supervised.log.splitlines() if "restarting" in line] == [
        "1", "137", "143", "134", "2"]


def test_an_older_notice_in_the_log_is_not_taken_for_that_of_this_start(supervised):
    assert supervised.run("asked", "done", "done") == 0
    assert len(supervised.starts) == 2


def test_training_says_that_it_was_stopped_in_the_words_that_are_looked_for(capsys):
    from srum_jax.training import run

    run.summarise(run.Outcome(False, 3, {}))
    assert capsys.readouterr().out.startswith("stopped as asked")
    run.summarise(run.Outcome(True, 3, {}))
    assert not capsys.readouterr().out.startswith("stopped as asked")


def test_arguments_that_cannot_be_used_are_not_tried_again(supervised):
    assert supervised.run("2", "done") == 2
    assert len(supervised.starts) == 1 and supervised.state.startswith("failed: exit code 2")


@pytest.mark.parametrize("step, code", [("1", 1), ("kill", 137), ("asked", 143)])
def test_it_gives_up_after_the_given_number_of_restarts(supervised, step, code):
    assert supervised.run(*[step] * 9, options=("--max-restarts", "2")) == code
    assert len(supervised.starts) == 3 and supervised.state == f"failed: exit code {code} after 2 restarts"


def test_a_sigterm_is_passed_on_and_waited_for(supervised):
    process = supervised.start("wait", "done")
    wait_for(lambda: "waiting" in supervised.log)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    assert "stopped as asked after step 3" in supervised.log and len(supervised.starts) == 1
    assert supervised.state.startswith("interrupted by SIGTERM") and "exit code 0" in supervised.state


def test_a_sigterm_to_the_command_alone_is_a_reason_to_start_it_again(supervised):
    process = supervised.start("wait", "done")
    wait_for(lambda: "waiting" in supervised.log)
    os.kill(int(read(supervised.folder / "child")), signal.SIGTERM)
    assert process.wait(timeout=60) == 0 and len(supervised.starts) == 2


def test_a_sigterm_between_two_starts_ends_it_at_once(supervised):
    process = supervised.start("1", "done", options=("--delay", "60"))
    wait_for(lambda: supervised.state.startswith("restarting"))
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 143 and len(supervised.starts) == 1


def test_a_second_supervisor_leaves_the_first_alone(supervised):
    process = supervised.start("wait")
    wait_for(lambda: "waiting" in supervised.log)
    assert supervised.run("done") == 0 and "a run is going on already" in supervised.output
    assert len(supervised.starts) == 1
    process.terminate()
    process.wait(timeout=60)


def test_a_command_that_outlives_its_supervisor_still_keeps_others_away(supervised):
    process = supervised.start("wait")
    wait_for(lambda: "waiting" in supervised.log)
    process.kill()
    process.wait(timeout=60)
    assert supervised.run("done") == 0 and "a run is going on already" in supervised.output
    os.kill(int(read(supervised.folder / "child")), signal.SIGTERM)
    wait_for(lambda: supervised.run("done") == 0 and supervised.state == "finished")


def test_a_container_shows_the_log(supervised):
    assert supervised.run("1", "done", options=("--echo",)) == 0
    assert "error: planned" in supervised.output and "done after step 4" in supervised.output


def test_the_exit_code_of_a_container_is_that_of_the_run_also_when_nobody_shows_the_log_any_more(supervised):
    process = supervised.start("wait", options=("--echo",))
    wait_for(lambda: "waiting" in supervised.log)
    subprocess.run(["pkill", "-P", str(process.pid), "tail"], check=True)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143


def test_a_sigterm_to_the_shell_around_a_container_command_reaches_it(supervised):
    """As xpk wraps commands: a subshell in the background, to which a trap passes the signal."""
    (supervised.place / "plan").write_text("wait\n")
    command = (f"exec bash {SCRIPTS}/supervise.sh --folder {supervised.folder} --echo -- "
               f"bash {supervised.place}/command.sh")
    wrapper = f"pass_on() (kill -TERM $!); trap pass_on TERM; ({command}) & PID=$!; " \
              "while kill -0 $PID 2>/dev/null; do sleep 0.1; done; wait $PID; exit $?"
    process = subprocess.Popen(["bash", "-c", wrapper], env=os.environ | {"PLACE": str(supervised.place)})
    wait_for(lambda: "waiting" in supervised.log)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143 and "stopped as asked after step 3" in supervised.log


def test_launch_watch_stop_and_launch_again(pod):
    plan(pod, "wait", "wait", "done")
    first = do(pod, "launch.sh", *TRAIN)
    assert first.returncode == 0 and first.stdout.startswith("started on ")
    folder = pod.worker / "srum_jax_runs" / "train"
    wait_for(lambda: "waiting" in read(folder / "log.txt"))
    again = do(pod, "launch.sh", *TRAIN)
    assert again.returncode == 0 and again.stdout.startswith("already running on ")
    assert "running, start 1" in again.stdout
    watched = do(pod, "watch.sh", "--once")
    assert watched.returncode == 0 and "waiting" in watched.stdout and "ACTIVE" in watched.stderr

    stopped = do(pod, "stop.sh")
    assert stopped.returncode == 0 and stopped.stdout.startswith("stopped: ") and "costs money" in stopped.stderr
    assert "stopped as asked after step 3" in read(folder / "log.txt")
    assert do(pod, "stop.sh").stdout.startswith("nothing runs on ")
    assert do(pod, "launch.sh", "--keep", *TRAIN).stdout.startswith("stopped: ")
    assert len(read(pod.worker / "starts").splitlines()) == 1

    do(pod, "launch.sh", *TRAIN)
    wait_for(lambda: read(folder / "log.txt").count("waiting") == 2)
    os.kill(int(read(folder / "pid")), signal.SIGTERM)
    wait_for(lambda: state(pod).startswith("interrupted"))  # that it was once stopped on purpose is forgotten

    wait_for(lambda: do(pod, "launch.sh", *TRAIN).stdout.startswith("started"))
    wait_for(lambda: state(pod) == "finished")
    assert do(pod, "launch.sh", "--keep", *TRAIN).stdout == "finished\n"
    words = "-m srum_jax.train --distributed --experiment=bagel_cot --workdir gs://b/cot"
    assert read(pod.worker / "starts").splitlines() == [words] * 3


def test_stopping_another_run_than_the_one_that_is_going_on_ends_nobody(pod):
    plan(pod, "done", "wait")
    do(pod, "launch.sh", "--run-name", "old", *TRAIN)
    wait_for(lambda: state(pod, "old") == "finished")
    wait_for(lambda: do(pod, "launch.sh", *TRAIN).stdout.startswith("started"))
    wait_for(lambda: "waiting" in read(pod.worker / "srum_jax_runs" / "train" / "log.txt"))
    with subprocess.Popen(["sleep", "60"]) as innocent:
        (pod.worker / "srum_jax_runs" / "old" / "pid").write_text(f"{innocent.pid}\n")  # the number has a new owner
        done = do(pod, "stop.sh", "--run-name", "old")
        assert done.returncode == 1 and "another run is going on" in done.stderr and ": train" in done.stderr
        assert innocent.poll() is None and state(pod).startswith("running")
        innocent.kill()
    assert ": train: running, start 1" in do(pod, "launch.sh", "--run-name", "old", *TRAIN).stdout


def test_logs_of_all_workers_are_collected_also_of_a_run_that_has_written_nothing_else(pod):
    folder = pod.worker / "srum_jax_runs" / "train"
    folder.mkdir(parents=True)
    (folder / "log.txt").write_text("error: no such records\n")
    (pod.directory / "empty-bucket").touch()
    here = pod.directory / "here"
    done = pod.run("collect.sh", "--workdir", "gs://b/cot", "--out", str(here), WORKERS="3")
    assert done.returncode == 1 and "could not be copied" in done.stderr
    assert [read(here / "workers" / f"{worker}.log") for worker in range(3)] == ["error: no such records\n"] * 3
    (pod.directory / "empty-bucket").unlink()
    assert pod.run("collect.sh", "--workdir", "gs://b/cot", "--out", str(here)).returncode == 0


def test_a_run_that_a_machine_ended_is_taken_up_again_by_keep(pod):
    plan(pod, "wait", "done")
    do(pod, "launch.sh", *TRAIN)
    folder = pod.worker / "srum_jax_runs" / "train"
    wait_for(lambda: "waiting" in read(folder / "log.txt"))
    os.kill(int(read(folder / "pid")), signal.SIGTERM)  # what a machine does to all processes when it goes down
    wait_for(lambda: state(pod).startswith("interrupted"))
    wait_for(lambda: not do(pod, "launch.sh", "--keep", *TRAIN).stdout.startswith("already"))
    wait_for(lambda: state(pod) == "finished")


def test_what_is_not_there_is_said(pod):
    assert do(pod, "stop.sh", "--run-name", "other").stdout == "no such run\n"
    shutil.rmtree(pod.worker / "srum_jax")
    done = do(pod, "launch.sh", *TRAIN)
    assert done.returncode != 0 and "not installed" in done.stdout
    pod.states("SUSPENDED")
    done = do(pod, "watch.sh")
    assert done.returncode == 1 and "SUSPENDED means pre-empted" in done.stderr
    done = do(pod, "collect.sh", "--workdir", "gs://b/cot", "--out", str(pod.directory / "here"))
    assert done.returncode == 0 and "the workers' logs are left out" in done.stderr


@pytest.mark.slow
def test_install_replaces_what_was_there_but_not_under_a_run(tmp_path):
    cloud = FakeCloud(tmp_path)
    cloud.states("ACTIVE")
    uv = cloud.worker / ".local" / "bin" / "uv"
    uv.parent.mkdir(parents=True)
    uv.write_text('#!/bin/sh\necho "uv $*"\n')
    uv.chmod(0o755)
    python = tmp_path / "bin" / "python3"
    python.write_text('#!/bin/sh\necho "python3 $*"\n')
    python.chmod(0o755)
    (cloud.worker / "srum_jax").mkdir()
    (cloud.worker / "srum_jax" / "of-before").touch()

    done = cloud.run("install.sh", HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert (cloud.worker / "srum_jax" / "tools" / "tpu_vm" / "supervise.sh").exists()
    assert not (cloud.worker / "srum_jax" / "of-before").exists()
    assert not (cloud.worker / "srum_jax" / ".git").exists()
    assert "--editable ./srum_jax[tpu]" in done.stdout and "installed on " in done.stdout

    lock = cloud.worker / "srum_jax_runs" / "lock"
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = cloud.run("install.sh", HOME=str(tmp_path))
    assert done.returncode != 0 and "a run is going on here" in done.stderr
