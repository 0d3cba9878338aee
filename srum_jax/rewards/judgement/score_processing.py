"""From a judge's raw score to the score that is stored. The raw one is always kept beside it."""

import enum

from srum_jax.rewards.judgement.verdict import Shows

_WORST, _MILDEST = -0.9, -0.5  # ends of the penalised range (paper, section 3.2: about [-0.9, -0.5])
_EXPONENT = 0.5
NEUTRAL_BAND = 0.4


class Severity(enum.StrEnum):
    """How the judge's severity of distortion enters a region's score."""

    ON = "on"  # from a threshold on, the score falls into the penalised range
    SMOOTH = "smooth"  # the same, faded in
    OFF = "off"


class Unmatched(enum.StrEnum):
    """What becomes of a region that shows nothing the prompt names."""

    CLIP = "clip"  # it can be penalised, never rewarded
    DROP = "drop"  # removed before it is scored
    KEEP = "keep"  # as any other


def penalised(score: float, severity: float, mode: Severity = Severity.ON) -> float:
    """Lowers the score of a distorted region; never raises it.

    The penalty is concave in the severity: just past the threshold a little more damage costs most.

    Args:
      score: in [-1, 1].
      severity: of the distortion, in [0, 1].
      mode: "on" has its threshold at 0.5 and jumps there; "smooth" fades in between 0.25 and 0.75.
    """
    threshold = 0.25 if mode is Severity.SMOOTH else 0.5
    if mode is Severity.OFF or severity < threshold:
        return score
    depth = ((severity - threshold) / (1 - threshold)) ** _EXPONENT
    penalty = _MILDEST + (_WORST - _MILDEST) * depth
    if mode is Severity.ON:
        return min(score, penalty)
    fade = min((severity - 0.25) / 0.5, 1.0)
    fade = fade * fade * (3 - 2 * fade)
    return min(score, score + fade * (penalty - score))


def clipped(score: float, shows: Shows, mode: Unmatched = Unmatched.CLIP) -> float:
    """Takes the reward, not the penalty, from a region that shows nothing the prompt names."""
    return min(score, 0.0) if shows is Shows.UNMATCHED and mode is Unmatched.CLIP else score


def neutralised(score: float, directive: bool) -> float:
    """Holds the global score of a prompt that asks for no arrangement to the neutral band."""
    return score if directive else min(max(score, -NEUTRAL_BAND), NEUTRAL_BAND)
