"""`python -m srum_jax.train --experiment=suder_tiny_bagel`, killed in every phase of a round and told to stop."""

import signal

import numpy as np
import pytest

from tests.e2e.training import lines, parameters, steps
from tests.rollouts import killed
from tests.rollouts.command import start

_STEPS = 2 * (len(killed.PHASES) + 2)  # each start but the last gets one round further at most


@pytest.mark.slow
def test_a_run_killed_in_every_phase_and_told_to_stop_ends_with_the_same_bytes(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    settings = (f"training.steps={_STEPS}",)
    code, _, err = start(whole, *settings).finish()
    assert code == 0, err

    for phase in killed.PHASES:
        ended = start(broken, *settings, module="tests.rollouts.killed", before=(phase,)).finish()
        assert ended.code == -signal.SIGKILL, (phase, ended.err)
    assert list((broken / "checkpoints").glob("*.orbax-checkpoint-tmp"))  # it was being saved
    before = steps(broken)[-1:]
    asked = start(broken, *settings).signal_when(lambda: steps(broken)[-1:] > before, signal.SIGTERM)
    assert asked.code == 0 and "stopped as asked after step" in asked.out, asked.err
    assert steps(broken)[-1] % 2 == 0  # the round is finished first
    code, _, err = start(broken, *settings).finish()
    assert code == 0, err

    assert lines(broken) == lines(whole)
    expected = parameters(whole, _STEPS)
    for name, values in parameters(broken, _STEPS).items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)
