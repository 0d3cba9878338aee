"""Rounds of two processes that share every program, as on two hosts."""

import numpy as np
import pytest

from tests.e2e.training import lines, parameters
from tests.multihost.pair import run_as_two
from tests.rollouts.command import start


@pytest.mark.slow
def test_two_processes_draw_and_learn_like_one_and_their_checkpoint_is_resumed_by_one(tmp_path):
    together, alone = tmp_path / "together", tmp_path / "alone"
    # Rows and weights are spread over both: neither of them could do anything on its own.
    for code, _, err in run_as_two(together, "training.steps=2", "mesh.data=1", "mesh.fsdp=2", start=start):
        assert code == 0, err
    code, out, err = start(together, "training.steps=4").finish()
    assert code == 0 and "restored from step 2" in out, err
    code, _, err = start(alone, "training.steps=4").finish()
    assert code == 0, err

    for found, expected in zip(lines(together), lines(alone), strict=True):
        assert found.keys() == expected.keys()
        for name, value in found.items():
            np.testing.assert_allclose(value, expected[name], rtol=2e-3, atol=1e-5, err_msg=f"{found['step']}, {name}")
    wanted = parameters(alone, 4)
    for name, values in parameters(together, 4).items():
        np.testing.assert_allclose(values, wanted[name], rtol=0, atol=1e-4, err_msg=name)
