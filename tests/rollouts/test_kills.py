"""`python -m srum_jax.train` on both tiny experiments of SUDER: killed in any phase, told to stop, exported.

Each experiment is killed in two of the four phases: what a phase leaves behind is not of the model's making.
"""

import signal

import numpy as np
import pytest
from safetensors.numpy import load_file

from srum_jax.families.registry import recognise
from srum_jax.worlds.shapes.base import trained_base, trained_janus
from tests import commands
from tests.e2e.training import lines, parameters
from tests.rollouts.command import CODES, FLOW, start

_ROUND = 2  # steps


def begin(workdir, experiment, rounds, number=None, *place):
    """Runs to its end, or to the signal that comes at the place."""
    within = {} if number is None else {"module": "tests.rollouts.killed", "before": (number.name, *place)}
    return start(workdir, f"training.steps={_ROUND * rounds}", experiment=experiment, **within).finish()


def assert_ends_like_one_that_nobody_disturbed(workdir, experiment, rounds, undisturbed):
    for folder in (workdir, undisturbed):
        code, _, err = begin(folder, experiment, rounds)
        assert code == 0, err
    assert lines(workdir) == lines(undisturbed)
    expected = parameters(undisturbed, _ROUND * rounds)
    for name, values in parameters(workdir, _ROUND * rounds).items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)


def assert_is_exported(workdir, template, weights, family):
    exported = workdir / "exported"
    code, _, err = commands.run("tools.convert_weights", "export", "--checkpoint", workdir, "--template", template,
                                "--out", exported)
    assert code == 0, err
    before, after = (load_file(folder / weights) for folder in (template, exported))
    assert before.keys() == after.keys() and recognise(exported) == family
    assert any(np.any(before[name] != after[name]) for name in before)


@pytest.mark.slow
def test_rounds_of_a_flow_model_killed_while_drawing_and_saving_and_told_to_stop_end_with_the_same_bytes(tmp_path):
    broken, rounds = tmp_path / "broken", 3
    ended = begin(broken, FLOW, rounds, signal.SIGKILL, "captions", 2)  # those of the audit are drawn first
    assert ended.code == -signal.SIGKILL, ended.err
    asked = begin(broken, FLOW, rounds, signal.SIGTERM, "update", 1)  # in the middle of a round, which is finished
    assert asked.code == 0 and "stopped as asked after step 2" in asked.out, asked.err
    ended = begin(broken, FLOW, rounds, signal.SIGKILL, "save", 1)
    assert ended.code == -signal.SIGKILL and "restored from step 2" in ended.out, ended.err
    assert_ends_like_one_that_nobody_disturbed(broken, FLOW, rounds, tmp_path / "whole")
    assert_is_exported(broken, trained_base(), "ema.safetensors", "bagel")


@pytest.mark.slow
def test_rounds_of_a_model_of_codes_killed_while_rewarding_and_updating_end_with_the_same_bytes(tmp_path):
    broken, rounds = tmp_path / "broken", 2
    for place in (("rewards", 2), ("update", 3)):
        ended = begin(broken, CODES, rounds, signal.SIGKILL, *place)
        assert ended.code == -signal.SIGKILL, (place, ended.err)
    assert_ends_like_one_that_nobody_disturbed(broken, CODES, rounds, tmp_path / "whole")
    assert_is_exported(broken, trained_janus(), "model.safetensors", "janus_pro")
