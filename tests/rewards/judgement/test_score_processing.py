import pytest
from hypothesis import given
from hypothesis import strategies as st

from srum_jax.rewards.judgement.score_processing import Severity, Unmatched, clipped, neutralised, penalised
from srum_jax.rewards.judgement.verdict import Shows
from tests.rewards.judgement.vectors import vectors

SCORES, SHARES = st.floats(-1, 1), st.floats(0, 1)


def test_penalties_of_the_worked_examples():
    for case in vectors("severity_penalty"):
        assert penalised(case["score"], case["severity"]) == pytest.approx(case["penalised"], abs=1e-6), case


@given(SCORES, SHARES, st.sampled_from(Severity))
def test_a_penalty_never_raises_a_score_and_stays_in_range(score, severity, mode):
    assert -1 <= penalised(score, severity, mode) <= score


@given(SCORES, SHARES, SHARES, st.sampled_from([Severity.ON, Severity.SMOOTH]))
def test_worse_damage_never_costs_less(score, one, other, mode):
    low, high = sorted((one, other))
    assert penalised(score, high, mode) <= penalised(score, low, mode) + 1e-12


@given(SCORES, SHARES)
def test_the_smooth_penalty_has_no_jump(score, severity):
    near = min(severity + 1e-6, 1.0)
    assert abs(penalised(score, severity, Severity.SMOOTH) - penalised(score, near, Severity.SMOOTH)) < 1e-3


def test_only_what_the_prompt_does_not_name_loses_its_reward():
    assert clipped(0.8, Shows.UNMATCHED) == 0.0 and clipped(-0.8, Shows.UNMATCHED) == -0.8
    assert clipped(0.8, Shows.BACKGROUND) == clipped(0.8, Shows.MATCH) == 0.8
    assert clipped(0.8, Shows.UNMATCHED, Unmatched.KEEP) == 0.8


def test_without_a_directive_the_layout_is_neutral_at_most():
    assert [neutralised(s, False) for s in (-1.0, -0.2, 0.4, 0.9)] == [-0.4, -0.2, 0.4, 0.4]
    assert neutralised(0.9, True) == 0.9
