"""A pod on which the project is installed, with a command of a planned ending as its Python."""

import pathlib
import shutil
import time

from tests.tools.fake_cloud import SCRIPTS

# A command that writes down each of its starts, and ends in the way that the first line left in `plan` says.
COMMAND = r"""
echo "$@" >>"$PLACE/starts"
step=$(head -n 1 "$PLACE/plan"); sed -i 1d "$PLACE/plan"
case $step in
  done) echo "done after step 4" ;;
  asked) echo "stopped as asked after step 2" ;;
  kill) kill -KILL $$ ;;
  wait) trap 'sleep 0.2; echo "stopped as asked after step 3"; exit 0' TERM
    echo waiting
    while :; do sleep 0.05; done ;;
  *) echo "error: planned"; exit "$step" ;;
esac
"""
TRAIN = ("--", "--experiment=bagel_cot", "--workdir", "gs://b/cot")


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def read(path: pathlib.Path) -> str:
    return path.read_text() if path.exists() else ""


def put_project(home: pathlib.Path):
    shutil.copytree(SCRIPTS, home / "srum_jax" / "tools" / "tpu_vm")
    python = home / "srum_jax_venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/usr/bin/env bash\n" + COMMAND)
    python.chmod(0o755)


def plan(pod, *steps):
    (pod.worker / "plan").write_text("".join(f"{step}\n" for step in steps))


def do(pod, script, *args, **environment):
    return pod.run(script, *args, PLACE=str(pod.worker), **environment)


def state(pod, run="train"):
    return read(pod.worker / "srum_jax_runs" / run / "state").strip()
