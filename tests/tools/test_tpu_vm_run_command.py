"""run.sh, the one command that keeps a run on a pretended pod going."""

from tests.tools.pretended_pod import TRAIN, do, plan, read, state, wait_for


def test_one_command_keeps_a_run_going_through_a_preemption_until_it_has_finished(pod):
    plan(pod, "done")
    pod.states("SUSPENDED", "ACTIVE", "ABSENT", "ABSENT", "ABSENT", "ACTIVE")
    done = do(pod, "run.sh", "--spot", *TRAIN)
    assert done.returncode == 0 and "pod is SUSPENDED: asking for another" in done.stderr
    assert "the run has finished" in done.stderr
    calls = pod.calls()
    verbs = [words[3] for words in calls]
    assert [verb for verb in verbs if verb in ("create", "delete")] == ["delete", "create"]
    assert "--spot" in calls[verbs.index("create")] and verbs.index("create") < verbs.index("ssh")
    assert len(read(pod.worker / "starts").splitlines()) == 1


def test_one_command_ends_with_1_and_deletes_the_slice_when_the_run_has_failed(pod):
    plan(pod, "2")
    pod.states("ACTIVE")
    do(pod, "launch.sh", *TRAIN)
    wait_for(lambda: state(pod).startswith("failed"))
    pod.calls()
    pod.states("ACTIVE", "ACTIVE", "ABSENT")
    done = do(pod, "run.sh", "--delete", *TRAIN)
    assert done.returncode == 1 and "has failed or was stopped" in done.stderr and "pod is gone" in done.stderr
    assert pod.verbs() == ["describe", "ssh", "describe", "delete", "describe", "list", "list"]


def test_one_command_does_not_ask_for_ever_for_a_slice_that_is_refused(pod):
    pod.states("ABSENT")
    (pod.directory / "no-quota").touch()
    done = do(pod, "run.sh", *TRAIN)
    assert done.returncode == 1 and "could not be created" in done.stderr
    assert pod.verbs() == ["describe", "describe", "create", "describe"]


def test_one_command_lives_through_what_passes(pod):
    plan(pod, "done")
    pod.states("SUSPENDED", "DENIED", "DENIED", *["SUSPENDED"] * 4, *["ABSENT"] * 3, "ACTIVE")
    (pod.directory / "undeletable").touch()
    done = do(pod, "run.sh", *TRAIN)
    assert done.returncode == 0 and "the run has finished" in done.stderr, done.stderr
    assert "gcloud cannot tell the state of pod for now: ERROR: (gcloud) PERMISSION_DENIED" in done.stderr
    assert pod.verbs().count("delete") == 2

    pod.states("DENIED")
    done = do(pod, "run.sh", *TRAIN)
    assert done.returncode == 1 and pod.verbs() == ["describe"], "at first it will not pass"


def test_one_command_asks_again_for_a_slice_that_it_once_had(pod):
    plan(pod, "done")
    (pod.directory / "no-quota").touch()
    pod.states(*["SUSPENDED"] * 2, *["ABSENT"] * 4, "ACTIVE")
    done = do(pod, "run.sh", *TRAIN)
    assert done.returncode == 0 and "ERROR: quota" in done.stderr and "the run has finished" in done.stderr


def test_one_command_does_not_ask_for_ever_for_a_slice_that_always_fails(pod):
    pod.states(*["FAILED", "FAILED", "ABSENT", "ABSENT", "ABSENT", "FAILED", "FAILED"] * 3, "FAILED")
    done = do(pod, "run.sh", *TRAIN)
    assert done.returncode == 1 and "pod has FAILED 4 times" in done.stderr and "describe pod" in done.stderr
    assert pod.verbs().count("create") == 3


def test_one_command_deletes_the_slice_even_if_that_fails_at_first(pod):
    plan(pod, "done")
    pod.states("ACTIVE")
    do(pod, "launch.sh", *TRAIN)
    wait_for(lambda: state(pod) == "finished")
    (pod.directory / "undeletable").touch()
    pod.states("ACTIVE", "ACTIVE", "ACTIVE", "ABSENT")
    pod.calls()
    done = do(pod, "run.sh", "--delete", *TRAIN)
    assert done.returncode == 0 and "pod is gone" in done.stderr, done.stderr
    assert pod.verbs().count("delete") == 2


def test_one_failed_worker_ends_it_although_another_one_cannot_be_reached(pod):
    plan(pod, "2")
    do(pod, "launch.sh", *TRAIN)
    wait_for(lambda: state(pod).startswith("failed"))
    done = do(pod, "run.sh", "--delete", *TRAIN, UNREACHABLE="1")
    assert done.returncode == 1 and "has failed or was stopped" in done.stderr
