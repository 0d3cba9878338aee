import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srum_jax.rewards.mask_rle import decode_mask, encode_mask


def test_runs_go_down_the_columns_and_begin_outside_the_mask():
    mask = np.array([[0, 1, 1], [0, 1, 0]], bool)
    assert encode_mask(mask) == {"size": [2, 3], "counts": [2, 3, 1]}
    assert encode_mask(~mask) == {"size": [2, 3], "counts": [0, 2, 3, 1]}
    assert encode_mask(np.zeros((2, 3), bool)) == {"size": [2, 3], "counts": [6]}


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_a_mask_comes_back(height, width, seed):
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    rle = encode_mask(mask)
    assert (decode_mask(rle) == mask).all() and sum(rle["counts"][1::2]) == mask.sum()
    assert all(count > 0 for count in rle["counts"][1:])


@pytest.mark.parametrize("counts", [[3, 2], [7], [-1, 7], [2.5, 3.5], [[6]]])
def test_runs_that_do_not_fill_the_mask_are_errors(counts):
    with pytest.raises(ValueError, match="counts: expected"):
        decode_mask({"size": [2, 3], "counts": counts})
