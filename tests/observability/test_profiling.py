import tempfile
import types

import jax
import jax.numpy as jnp
import pytest

from srum_jax.observability import profiling
from srum_jax.observability.profiling import REQUEST_FILE, Profiler, first_step_for_all
from srum_jax.training.config import TrainingConfig
from tests.faulty_bucket import ROOT


def steps(profiler, first, last, log_every=None):
    """A loop that reads its results one step late."""
    for step in range(first, last + 1):
        profiler.hand_over(step)
        with jax.profiler.StepTraceAnnotation("train", step_num=step):
            jax.block_until_ready(jnp.arange(8.0) * step)
        if step > 1:
            profiler.finished(step - 1)
            if log_every and (step - 1) % log_every == 0:
                profiler.look_for_request(step - 1)


def traces(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.glob("profile/plugins/profile/*/*.xplane.pb"))


def test_the_steps_of_the_settings_are_traced_where_tensorboard_looks(tmp_path):
    said = []
    with Profiler(tmp_path, TrainingConfig(profile_first_step=3, profile_steps=2), said.append) as profiler:
        steps(profiler, 1, 4)
        assert not traces(tmp_path), "the result of its last step is not known yet"
        steps(profiler, 5, 8)
        assert traces(tmp_path) == ["profile/plugins/profile/step_3/process_0.xplane.pb"]
    trace = (tmp_path / traces(tmp_path)[0]).read_bytes()
    assert b"train" in trace
    assert said == [f"profile: steps 3 to 4 are in {tmp_path / 'profile'}"]


def test_a_trace_that_is_under_way_when_the_run_ends_is_kept(tmp_path):
    with Profiler(tmp_path, TrainingConfig(profile_first_step=2, profile_steps=100), lambda _: None) as profiler:
        steps(profiler, 1, 3)
    assert traces(tmp_path) == ["profile/plugins/profile/step_2/process_0.xplane.pb"]


def test_whoever_makes_the_file_gets_a_trace_of_the_next_steps(tmp_path):
    said = []
    with Profiler(tmp_path, TrainingConfig(log_every=5), said.append) as profiler:
        steps(profiler, 1, 8, log_every=5)
        assert not traces(tmp_path)
        (tmp_path / REQUEST_FILE).touch()
        steps(profiler, 9, 16, log_every=5)
        assert (tmp_path / REQUEST_FILE).exists(), "the trace has not begun"
        steps(profiler, 17, 25, log_every=5)
    assert not (tmp_path / REQUEST_FILE).exists()
    assert said[0] == "profile: steps 17 to 19 will be traced"
    assert traces(tmp_path) == ["profile/plugins/profile/step_17/process_0.xplane.pb"]


def test_a_trace_that_cannot_be_written_does_not_end_the_run(tmp_path, caplog):
    (tmp_path / "profile").write_text("in the way")
    with Profiler(tmp_path, TrainingConfig(profile_first_step=1, profile_steps=1), lambda _: None) as profiler:
        steps(profiler, 1, 3)
    assert "the profile cannot be written" in caplog.text


@pytest.fixture
def spool(tmp_path, monkeypatch):
    """Where temporary folders go; to see that none stays."""
    (tmp_path / "spool").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "spool"))
    return tmp_path / "spool"


def failing(call, error):
    def fail(*arguments, **named):
        if call is not None:
            call(*arguments, **named)
        raise error

    return fail


@pytest.mark.parametrize(("owner", "name", "error"), [
    (tempfile, "mkdtemp", OSError(28, "No space left on device")),
    (jax.profiler, "start_trace", RuntimeError("one session at a time")),
])
def test_a_trace_that_cannot_begin_does_not_end_the_run(tmp_path, spool, monkeypatch, caplog, owner, name, error):
    (tmp_path / REQUEST_FILE).touch()
    with Profiler(tmp_path, TrainingConfig(profile_steps=1, log_every=1), lambda _: None) as profiler:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, failing(None, error))
            steps(profiler, 1, 8, log_every=1)
        assert str(error) in caplog.text and caplog.text.count("no profile can be made") == 1
        assert not (tmp_path / REQUEST_FILE).exists() and list(spool.iterdir()) == []
        (tmp_path / REQUEST_FILE).touch()
        steps(profiler, 9, 16, log_every=1)
    assert len(traces(tmp_path)) == 1, "the next request is met"


@pytest.mark.parametrize("error", [RuntimeError("no session"), OSError("full")])
def test_a_trace_that_cannot_end_hides_no_error_and_leaves_no_folder(tmp_path, spool, monkeypatch, caplog, error):
    monkeypatch.setattr(jax.profiler, "stop_trace", failing(jax.profiler.stop_trace, error))
    with pytest.raises(KeyError, match="what ended the run"), \
            Profiler(tmp_path, TrainingConfig(profile_first_step=1), lambda _: None) as profiler:
        steps(profiler, 1, 2)
        raise KeyError("what ended the run")
    assert f"the profile cannot be written ({error})" in caplog.text and list(spool.iterdir()) == []


def test_settings_that_trace_nothing_are_said_and_do_not_hold_up_requests(tmp_path):
    said = []
    (tmp_path / REQUEST_FILE).touch()
    settings = TrainingConfig(steps=12, log_every=1, profile_first_step=50, profile_steps=1)
    with Profiler(tmp_path, settings, said.append) as profiler:
        steps(profiler, 1, 12, log_every=1)
    assert said[0] == ("profile: training.profile_first_step is 50, and the run ends with step 12 (training.steps): "
                       "these settings trace nothing")
    assert traces(tmp_path) == ["profile/plugins/profile/step_5/process_0.xplane.pb"]


def test_a_request_that_comes_too_late_is_left_to_the_next_start(tmp_path):
    said = []
    (tmp_path / REQUEST_FILE).touch()
    with Profiler(tmp_path, TrainingConfig(steps=16, log_every=5), said.append) as profiler:
        steps(profiler, 8, 16, log_every=5)
        profiler.look_for_request(15)
    assert said == ["profile: profile_now came too late to trace steps of this run, which ends with step 16"]
    assert (tmp_path / REQUEST_FILE).exists() and not traces(tmp_path)


def test_a_trace_does_not_promise_steps_behind_the_last_one(tmp_path):
    said = []
    (tmp_path / REQUEST_FILE).touch()
    with Profiler(tmp_path, TrainingConfig(steps=8, log_every=1), said.append) as profiler:
        steps(profiler, 4, 8, log_every=1)
    assert said[0] == "profile: steps 7 to 8 will be traced"


def test_a_request_that_cannot_be_removed_is_met_once(tmp_path, monkeypatch, caplog):
    (tmp_path / REQUEST_FILE).touch()
    with Profiler(tmp_path, TrainingConfig(log_every=1, profile_steps=1), lambda _: None) as profiler:
        with monkeypatch.context() as patch:
            patch.setattr(profiling, "remove", failing(None, OSError("no backend")))
            steps(profiler, 1, 12, log_every=1)
        assert "profile_now cannot be removed now (no backend)" in caplog.text and len(traces(tmp_path)) == 1
        steps(profiler, 13, 20, log_every=1)
    assert not (tmp_path / REQUEST_FILE).exists() and len(traces(tmp_path)) == 1


@pytest.mark.parametrize("code", [401, 403, 503])
def test_a_bucket_that_does_not_answer_is_asked_again_at_the_next_log_line(faulty, caplog, code):
    said = []
    faulty.objects["run/profile_now"], faulty.code = b"", code
    profiler = Profiler(ROOT, TrainingConfig(log_every=1, profile_steps=1), said.append)
    profiler.look_for_request(1)
    assert "profile_now cannot be looked for now" in caplog.text and said == []
    faulty.code = None
    profiler.look_for_request(2)
    assert said == ["profile: steps 6 to 6 will be traced"]


def test_a_trace_is_asked_for_and_written_in_a_bucket(bucket):
    (bucket / REQUEST_FILE).write_text("")
    with Profiler(bucket, TrainingConfig(log_every=1, profile_steps=1), lambda _: None) as profiler:
        steps(profiler, 1, 8, log_every=1)
    assert not (bucket / REQUEST_FILE).exists()
    assert (bucket / "profile/plugins/profile/step_5/process_0.xplane.pb").exists()


class Board:
    """The service where processes meet."""

    def __init__(self):
        self.notes = {}

    def key_value_set(self, key, value, allow_overwrite):
        self.notes[key] = value

    def key_value_dir_get(self, folder):
        return [(key, value) for key, value in self.notes.items() if key.startswith(folder)]


@pytest.fixture
def as_process(monkeypatch):
    board = Board()
    monkeypatch.setattr(profiling, "global_state", types.SimpleNamespace(client=board))
    monkeypatch.setattr(jax, "process_count", lambda: 2)

    def become(number):
        monkeypatch.setattr(jax, "process_index", lambda: number)

    return become


def test_all_processes_trace_the_same_steps(tmp_path, as_process):
    settings, profilers = TrainingConfig(log_every=4, profile_steps=1), []
    for number in (0, 1):
        as_process(number)
        profilers.append(Profiler(tmp_path, settings, lambda _: None))
    (tmp_path / REQUEST_FILE).touch()
    as_process(0)
    profilers[0].look_for_request(8)
    as_process(1)
    profilers[1].look_for_request(12)
    first = first_step_for_all(8, 4)
    for number, profiler in enumerate(profilers):
        as_process(number)
        steps(profiler, 13, first + 2)
        profiler.look_for_request(first + 2)  # an old note is not taken for a new one
        steps(profiler, first + 3, first + 6)
    assert traces(tmp_path) == [f"profile/plugins/profile/step_{first}/process_{number}.xplane.pb" for number in (0, 1)]


@pytest.mark.parametrize("log_every", [1, 2, 3, 10])
def test_every_process_reads_the_note_before_its_first_step_comes(log_every):
    for step in range(log_every, 60, log_every):
        first = first_step_for_all(step, log_every)
        # Safe are log lines of step + 2 and later ones; at such a line the step behind it was handed over already.
        safe = [line for line in range(log_every, 100, log_every) if line >= step + 2]
        assert first > safe[0] + 1
