"""The scripts of tools/tpu_vm: what they would run, what they refuse, and that they can be given twice."""

import pathlib
import re
import shlex
import shutil
import subprocess

import pytest

from srum_jax.training.run import MAY_CHANGE
from tests.test_readme import PAGES, _code_lines
from tests.tools.fake_cloud import SCRIPTS, FakeCloud

ALL = sorted(path.name for path in SCRIPTS.glob("*.sh"))
ABOUT_A_POD = ("create.sh", "install.sh", "launch.sh", "watch.sh", "stop.sh", "collect.sh", "delete.sh", "run.sh")
TRAIN = ("--", "--experiment=bagel_cot", "--workdir", "gs://b/cot")
WHERE = "--zone=us-east5-a --project=my-project"
DESCRIBE = f"gcloud compute tpus queued-resources describe pod {WHERE} '--format=value(state.state)'\n"


DOCUMENTED = sorted({re.sub(r"\s+", " ", line).strip() for page in PAGES for line in _code_lines(page)
                     if line.strip().startswith("tools/tpu_vm/")})


@pytest.fixture
def cloud(tmp_path):
    return FakeCloud(tmp_path)


def dry(cloud, script, *args, **environment):
    """What a script prints with --dry-run, after making sure that it has called nothing."""
    done = cloud.run(script, *([args[0]] if script.startswith("xpk") else []), "--dry-run",
                     *(args[1:] if script.startswith("xpk") else args), **environment)
    assert done.returncode == 0, done.stderr
    assert cloud.calls() == []
    return done.stdout


def test_the_folder_holds_what_the_docs_speak_of():
    assert set(ABOUT_A_POD) | {"settings.sh", "supervise.sh", "xpk_multislice.sh"} == set(ALL)
    assert all((SCRIPTS / name).stat().st_mode & 0o111 for name in ALL if name != "settings.sh")


@pytest.mark.parametrize("name", ALL)
def test_every_script_is_correct_bash_and_ends_at_the_first_error(name):
    assert subprocess.run(["bash", "-n", str(SCRIPTS / name)], capture_output=True).stderr == b""
    if name != "settings.sh":
        text = (SCRIPTS / name).read_text()
        assert text.startswith("#!/usr/bin/env bash\n# ") and "\nset -euo pipefail\n" in text


@pytest.mark.parametrize("name", [name for name in ALL if name != "settings.sh"])
def test_every_script_says_what_it_does_without_any_setting(cloud, name):
    done = cloud.run(name, "--help", SRUM_TPU_NAME=None, SRUM_TPU_ZONE=None, SRUM_TPU_PROJECT=None)
    assert done.returncode == 0 and done.stderr == "" and cloud.calls() == []
    assert "usage: " + name in done.stdout and "set -euo" not in done.stdout
    if name != "supervise.sh":
        assert "--dry-run" in done.stdout and "SRUM_TPU_ZONE" in done.stdout
        assert "until delete.sh has deleted it" in done.stdout, "how to stop paying"


def test_create_asks_for_the_slice_with_the_image_of_its_type(cloud):
    expected = DESCRIBE + "# if it is ABSENT:\n" + (
        f"gcloud compute tpus queued-resources create pod {WHERE} --node-id=pod --accelerator-type={{}} "
        "--runtime-version={}{}\n"
    )
    for kind, image in {"v5p-128": "v2-alpha-tpuv5", "v5litepod-256": "v2-alpha-tpuv5-lite",
                        "v6e-64": "v2-alpha-tpuv6e"}.items():
        assert dry(cloud, "create.sh", SRUM_TPU_TYPE=kind) == expected.format(kind, image, "")
    flags = ("--accelerator-type", "v4-8", "--runtime-version=tpu-ubuntu2204-base", "--spot", "--service-account=me@x")
    assert dry(cloud, "create.sh", *flags) == expected.format(
        "v4-8", "tpu-ubuntu2204-base", " --service-account=me@x --spot")


def test_install_uploads_the_folder_or_a_commit_and_installs_it_on_all_workers(cloud):
    root = SCRIPTS.parents[1]
    rest = f"""\
gcloud compute tpus tpu-vm scp /home/me/.cache/srum_jax/upload-pod.tar.gz pod:srum_jax.tar.gz {WHERE} --worker=all
gcloud compute tpus tpu-vm ssh pod {WHERE} --worker=all '--command=set -e
mkdir -p srum_jax_runs
flock -n srum_jax_runs/lock true || {{ echo '\\''a run is going on here: stop.sh first'\\'' >&2; exit 1; }}
rm -rf srum_jax && mkdir srum_jax && tar -xzf srum_jax.tar.gz -C srum_jax
PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --user --quiet uv
~/.local/bin/uv venv --quiet --allow-existing --python 3.11 srum_jax_venv
~/.local/bin/uv pip install --quiet --python srum_jax_venv/bin/python --editable '\\''./srum_jax[EXTRAS]'\\''
echo "installed on $(hostname)"'
"""
    make = "mkdir -p /home/me/.cache/srum_jax\n"
    pack = "tar -czf /home/me/.cache/srum_jax/upload-pod.tar.gz --exclude=./.git --exclude=./runs --exclude=./venv " \
           f"--exclude=./.venv --exclude=__pycache__ -C {shlex.quote(str(root))} .\n"
    assert dry(cloud, "install.sh") == make + pack + rest.replace("EXTRAS", "tpu")
    archive = f"git -C {shlex.quote(str(root))} archive --format=tar.gz " \
              "--output=/home/me/.cache/srum_jax/upload-pod.tar.gz abc123\n"
    assert dry(cloud, "install.sh", "--commit", "abc123", "--extras=tpu,rewards") == (
        make + archive + rest.replace("EXTRAS", "tpu,rewards"))


LAUNCH = f"""\
gcloud compute tpus tpu-vm ssh pod {WHERE} --worker=all '--command=cd srum_jax 2>/dev/null || \
{{ echo '\\''not installed'\\''; exit 1; }}
mkdir -p ../srum_jax_runs/RUN && cd ../srum_jax_runs/RUN && touch state
flock -n ../lock true || {{ held=$(cat ../holder)
  echo "already running on $(hostname): $held: $(cat "../$held/state")"; exit 0; }}
if [ KEEP = yes ] && grep -Eq '\\''^(finished|failed|stopped)'\\'' state; then cat state; exit 0; fi
cd ~/srum_jax && {{ nohup setsid bash tools/tpu_vm/supervise.sh --folder ../srum_jax_runs/RUN --max-restarts N -- \
COMMAND > /dev/null 2>&1 < /dev/null & }}
echo "started on $(hostname)"'
"""


def launch(run="train", keep="no", restarts="20", command=""):
    python = "../srum_jax_venv/bin/python -m "
    return LAUNCH.replace("RUN", run).replace("KEEP", keep).replace(" N ", f" {restarts} ").replace(
        "COMMAND", command or python + "srum_jax.train --distributed --experiment=bagel_cot --workdir gs://b/cot")


def test_launch_starts_the_command_under_supervision_on_all_workers(cloud):
    assert dry(cloud, "launch.sh", *TRAIN) == launch()
    command = "env A=1 ../srum_jax_venv/bin/python -m tools.make_rewards judge --out gs://b/comp"
    assert dry(cloud, "launch.sh", "--run-name", "judge", "--max-restarts=3", "--env", "A=1", "--keep", "--module",
               "tools.make_rewards", "--", "judge", "--out", "gs://b/comp") == launch("judge", "yes", "3", command)


def test_watch_stop_and_collect_print_their_commands(cloud):
    assert dry(cloud, "watch.sh") == DESCRIBE + "# if it is ACTIVE:\n" + (
        f"gcloud compute tpus tpu-vm ssh pod {WHERE} --worker=0 "
        "'--command=cd srum_jax_runs/train && cat state && tail -n 40 -F log.txt'\n")
    assert dry(cloud, "watch.sh", "--worker=all", "--lines=5", "--once", "--run-name=x").endswith(
        "--worker=all '--command=cd srum_jax_runs/x && cat state && tail -n 5 log.txt'\n")
    assert dry(cloud, "stop.sh") == f"""\
gcloud compute tpus tpu-vm ssh pod {WHERE} --worker=all '--command=cd srum_jax_runs/train 2>/dev/null || \
{{ echo '\\''no such run'\\''; exit 0; }}
flock -n ../lock true && {{ echo "nothing runs on $(hostname)"; exit 0; }}
[ "$(cat ../holder)" = train ] ||
  {{ echo "another run is going on on $(hostname): $(cat ../holder)" >&2; exit 1; }}
touch stop  # tells a wish from a machine that goes down
kill -TERM "$(cat pid)" 2>/dev/null || kill -TERM "$(cat child)"
flock -w 600 ../lock cat state || {{ echo "still running on $(hostname) after 10 minutes" >&2; exit 1; }}'
"""
    assert dry(cloud, "collect.sh", "--workdir", "gs://b/cot/", "--out", "here") == f"""\
mkdir -p here/workers
gcloud storage cp gs://b/cot/config.json gs://b/cot/metrics.jsonl gs://b/cot/goodput.jsonl here/
gcloud storage rsync --recursive gs://b/cot/tensorboard here/tensorboard
{DESCRIBE}# if it is ACTIVE:
gcloud compute tpus tpu-vm describe pod {WHERE} '--format=value(networkEndpoints.len())'
# for every worker N, here 0; its output goes to here/workers/N.log:
gcloud compute tpus tpu-vm ssh pod {WHERE} --worker=0 '--command=cat srum_jax_runs/train/log.txt'
"""


DELETE = f"""\
{DESCRIBE}# if it is ACTIVE:
gcloud compute tpus queued-resources delete pod {WHERE} --force --quiet
{DESCRIBE}# if it is ABSENT:
gcloud compute tpus queued-resources list {WHERE} '--format=value(name.basename())'
gcloud compute tpus tpu-vm list {WHERE} '--format=value(name.basename())'
"""


def test_delete_prints_its_commands_and_run_those_of_all_others(cloud):
    assert dry(cloud, "delete.sh") == DELETE
    assert dry(cloud, "run.sh", "--spot", "--accelerator-type=v5p-16", "--commit", "abc", "--max-restarts", "7",
               "--delete", *TRAIN) == (
        dry(cloud, "create.sh", "--spot", "--accelerator-type=v5p-16") + dry(cloud, "install.sh", "--commit=abc")
        + launch(keep="yes", restarts="7") + DELETE)


def test_several_slices_are_run_by_xpk(cloud):
    options = ("--tpu-type=v6e-256", "--num-slices", "4", "--image=registry/srum:v1")
    root = shlex.quote(str(SCRIPTS.parents[1]))
    listing = f"xpk workload list --cluster=pod {WHERE} --filter-by-job=srum-train\n"
    assert dry(cloud, "xpk_multislice.sh", "image", *options) == (
        f"docker build --platform=linux/amd64 --file={SCRIPTS}/Dockerfile --tag=registry/srum:v1 {root}\n"
        "docker push registry/srum:v1\n")
    assert dry(cloud, "xpk_multislice.sh", "create", *options, "--spot") == (
        f"xpk cluster create --cluster=pod {WHERE} --tpu-type=v6e-256 --num-slices=4 --spot\n")
    assert dry(cloud, "xpk_multislice.sh", "launch", *options, *TRAIN) == listing + (
        f"xpk workload create --workload=srum-train --cluster=pod {WHERE} --tpu-type=v6e-256 --num-slices=4 "
        "--docker-image=registry/srum:v1 --max-restarts=20 --restart-on-exit-codes=1 "
        "--termination-grace-period-seconds=300 '--command=exec bash tools/tpu_vm/supervise.sh --folder "
        "/tmp/srum_jax_runs/srum-train --echo --max-restarts 20 -- python -m srum_jax.train --distributed "
        "--experiment=bagel_cot --workdir gs://b/cot'\n")
    assert dry(cloud, "xpk_multislice.sh", "watch") == listing + (
        "kubectl logs --follow --tail=40 --all-containers --selector=jobset.sigs.k8s.io/jobset-name=srum-train,"
        "jobset.sigs.k8s.io/job-index=0,batch.kubernetes.io/job-completion-index=0\n")
    assert dry(cloud, "xpk_multislice.sh", "stop") == (
        f"xpk workload delete --workload=srum-train --cluster=pod {WHERE} --force\n")
    assert dry(cloud, "xpk_multislice.sh", "delete") == (
        f"xpk cluster delete --cluster=pod {WHERE} --force\n"
        "gcloud container clusters list --project=my-project --filter=name=pod '--format=value(name)'\n")


def test_the_docs_speak_of_every_script():
    assert {re.match(r"tools/tpu_vm/(\w+\.sh)", line)[1] for line in DOCUMENTED} >= {*ABOUT_A_POD, "xpk_multislice.sh"}


@pytest.mark.parametrize("line", DOCUMENTED)
def test_every_documented_command_of_the_scripts_can_be_given(cloud, line):
    """As a shell would run it in the root of the project, with --dry-run."""
    line = re.sub(r"^(\S+xpk_multislice\.sh \w+|\S+)", r"\1 --dry-run", line)
    done = subprocess.run(["bash", "-uc", line], cwd=SCRIPTS.parents[1], text=True, capture_output=True, env=(
        cloud.environment(BUCKET="gs://my-project-srum", SRUM_TPU_IMAGE="us-docker.pkg.dev/p/srum/srum_jax:v1", i="0",
                          overlap="--xla_first=true --xla_second=true")))
    assert done.returncode == 0, done.stderr
    assert done.stdout and cloud.calls() == []


def test_documented_runs_of_one_work_directory_have_the_settings_that_may_not_change():
    settings = {}
    for line in DOCUMENTED:
        if "--experiment=" in line:
            words = shlex.split(line)
            given = sorted(word for word in words if re.match(r"[a-z_.]+=", word) and not word.startswith(MAY_CHANGE))
            settings.setdefault(words[words.index("--workdir") + 1], []).append(given)
    assert max(map(len, settings.values())) >= 3
    for folder, found in settings.items():
        assert all(given == found[0] for given in found), folder


@pytest.mark.parametrize("name", ABOUT_A_POD)
@pytest.mark.parametrize("missing", ["NAME", "ZONE", "PROJECT"])
def test_a_setting_that_is_missing_is_named(cloud, name, missing):
    done = cloud.run(name, *(TRAIN if name in ("launch.sh", "run.sh") else ()), **{f"SRUM_TPU_{missing}": None})
    assert done.returncode == 2 and f"--{missing.lower()} is not set" in done.stderr
    assert cloud.calls() == []


@pytest.mark.parametrize("command, words", [
    (["create.sh", "--accelerator-type="], "--accelerator-type is not set"),
    (["create.sh", "--accelerator-type", "v9-8"], "v9-8: no image is known for it"),
    (["create.sh", "--zone"], "--zone: expected a value"),
    (["create.sh", "--sopt"], "--sopt: no such argument"),
    (["create.sh", "pod"], "pod: no such argument"),
    (["install.sh", "--commit"], "--commit: expected a value"),
    (["launch.sh", "--experiment=bagel_cot"], "--experiment: no such argument"),
    (["launch.sh"], "the command's arguments are missing"),
    (["launch.sh", "--max-restarts=many", *TRAIN], "--max-restarts: expected a number, found many"),
    (["launch.sh", "--env"], "--env: expected NAME=VALUE"),
    (["run.sh", "--spot"], "the command's arguments are missing"),
    (["run.sh", "--commit"], "--commit: expected a value"),
    (["collect.sh", "--out", "here"], "--workdir is not set"),
    (["xpk_multislice.sh"], "found nothing"),
    (["xpk_multislice.sh", "begin"], "found begin"),
    (["xpk_multislice.sh", "launch", "--tpu-type=v6e-256", *TRAIN], "--image is not set"),
    (["xpk_multislice.sh", "launch", "--tpu-type=v6e-256", "--image=i"], "arguments of srum_jax.train are missing"),
    (["supervise.sh", "--", "true"], "--folder and a command"),
    (["supervise.sh", "--folder", "x"], "--folder and a command"),
    (["supervise.sh", "--fodler", "x"], "--fodler: no such argument"),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_arguments_that_cannot_be_used_are_answered_with_2_and_the_reason(cloud, command, words):
    done = cloud.run(*command)
    assert done.returncode == 2 and words in done.stderr, done.stderr
    assert cloud.calls() == [] and done.stdout == ""


def test_words_with_spaces_quotes_and_dollars_arrive_as_they_were_given(cloud):
    odd = """a pod's "name" $HOME `x` *"""
    printed = dry(cloud, "create.sh", "--name", odd)
    create = shlex.split(printed.splitlines()[-1])
    assert create[5] == odd and f"--node-id={odd}" in create
    cloud.run("create.sh", "--no-wait", "--name", odd)
    assert [call[4] for call in cloud.calls()] == [odd, odd]

    value = "data.records=gs://b/it's $HOME; \"x\"\n&"
    remote = shlex.split(dry(cloud, "launch.sh", "--", "--set", value))[-1]
    start = remote.split("{ nohup setsid ")[1].split(" > /dev/null")[0]
    assert shlex.split(start)[-2:] == ["--set", value]


def test_create_waits_until_the_slice_is_there_and_asks_for_it_only_once(cloud):
    cloud.states("ABSENT", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE")
    done = cloud.run("create.sh")
    assert done.returncode == 0 and "pod is ACTIVE and costs money until delete.sh" in done.stderr
    assert cloud.verbs() == ["describe", "create", "describe", "describe", "describe"]

    again = cloud.run("create.sh")
    assert again.returncode == 0 and "pod exists already, state ACTIVE" in again.stderr
    assert "create" not in cloud.verbs()

    cloud.states("WAITING_FOR_RESOURCES")
    assert cloud.run("create.sh", "--no-wait").returncode == 0
    assert cloud.verbs() == ["describe"]


@pytest.mark.parametrize("state", ["FAILED", "SUSPENDED", "ABSENT"])
def test_create_ends_when_the_slice_will_not_come(cloud, state):
    cloud.states("WAITING_FOR_RESOURCES", "WAITING_FOR_RESOURCES", state)
    done = cloud.run("create.sh")
    assert done.returncode == 1 and f"pod is {state} and will not become ACTIVE" in done.stderr


@pytest.mark.parametrize("name", ["create.sh", "watch.sh", "delete.sh"])
@pytest.mark.parametrize("state, words", [("DENIED", "PERMISSION_DENIED"), ("LOGGED_OUT", "credentials were not")])
def test_a_refusal_of_the_cloud_is_not_taken_for_absence(cloud, name, state, words):
    cloud.states(state)
    done = cloud.run(name)
    assert done.returncode == 1 and words in done.stderr
    assert "pod in us-east5-a of my-project" in done.stderr
    assert cloud.verbs() == ["describe"]


def test_a_machine_without_gcloud_does_not_say_that_nothing_costs_money(cloud):
    (cloud.directory / "bin" / "gcloud").unlink()
    for command in ("bash", "dirname", "grep", "tail", "cat", "sed"):
        (cloud.directory / "bin" / command).symlink_to(shutil.which(command))
    done = cloud.run("delete.sh", PATH=str(cloud.directory / "bin"))
    assert done.returncode == 1 and "gcloud cannot tell the state of pod" in done.stderr
    assert "command not found" in done.stderr and "there is no pod" not in done.stderr


def test_delete_makes_sure_that_nothing_is_left(cloud):
    cloud.states("ACTIVE", "ABSENT")
    (cloud.directory / "others").write_text("theirs\nmine too\n")
    done = cloud.run("delete.sh")
    assert done.returncode == 0 and "pod is gone and costs nothing any more" in done.stderr
    assert "left in us-east5-a (tpu-vm): theirs mine too" in done.stderr
    assert cloud.verbs() == ["describe", "delete", "describe", "list", "list"]

    again = cloud.run("delete.sh")
    assert again.returncode == 0 and "there is no pod in us-east5-a of my-project" in again.stderr
    assert "delete" not in cloud.verbs()

    cloud.states("ACTIVE", "DELETING")
    done = cloud.run("delete.sh")
    assert done.returncode == 1 and "STILL THERE (state DELETING) AND MAY COST MONEY" in done.stderr

    cloud.states("ABSENT")
    (cloud.directory / "others").write_text("theirs\npod\n")
    done = cloud.run("delete.sh")
    assert done.returncode == 1 and "pod IS STILL LISTED AND MAY COST MONEY" in done.stderr
    assert "is gone" not in done.stderr


def test_an_xpk_run_is_not_started_twice(cloud):
    listed = cloud.directory / "workloads"
    options = ("launch", "--tpu-type=v6e-256", "--image=i", *TRAIN)
    listed.write_text("Jobset Name   Status\nsrum-train-2  Running\n")
    assert cloud.run("xpk_multislice.sh", *options).returncode == 0
    assert [call[1] for call in cloud.calls()] == ["list", "create"]
    listed.write_text("Jobset Name   Status\nsrum-train  Running\n")
    done = cloud.run("xpk_multislice.sh", *options)
    assert done.returncode == 0 and "srum-train exists already" in done.stderr
    assert [call[1] for call in cloud.calls()] == ["list"]


def test_a_cluster_that_is_left_is_an_error(cloud):
    assert cloud.run("xpk_multislice.sh", "delete").returncode == 0
    (cloud.directory / "others").write_text("pod\n")
    done = cloud.run("xpk_multislice.sh", "delete")
    assert done.returncode == 1 and "STILL THERE AND COSTS MONEY" in done.stderr


def test_the_container_holds_what_its_launch_command_calls():
    text = pathlib.Path(SCRIPTS / "Dockerfile").read_text()
    assert "COPY . ." in text and "WORKDIR /srum_jax" in text and "[tpu]" in text
    ignored = (SCRIPTS / "Dockerfile.dockerignore").read_text().split()
    assert "runs" in ignored and "tools" not in ignored
