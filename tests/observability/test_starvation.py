from srum_jax.data.config import DataConfig
from srum_jax.observability.starvation import StarvationWatch
from srum_jax.observability.step_times import StepSplit

DATA = DataConfig(num_workers=3, num_threads=5, prefetch=7)


def test_a_starving_run_is_told_the_share_and_the_settings_that_help_once():
    watch = StarvationWatch(DATA)
    assert watch.look(StepSplit(compute=95.0, data_wait=5.0), 10, 10) is None
    said = watch.look(StepSplit(compute=50.0, data_wait=30.0, other=20.0), 20, 10)
    assert "waited for data during 30% of the time of steps 11 to 20 (3 s of 10 s a step)" in said
    assert "data.num_workers (now 3;" in said and "data.num_threads (now 5)" in said and "data.prefetch (now 7)" in said
    assert "process 0 " in said
    assert watch.look(StepSplit(compute=1.0, data_wait=99.0), 30, 10) is None


def test_steps_that_took_no_time_are_no_reason_to_warn():
    assert StarvationWatch(DATA).look(StepSplit(), 1, 1) is None
