"""Whether two rankings agree, and whether scores tell right from wrong. On the host."""

import numpy as np


def kendall_tau(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Tau a and tau b of two rankings of the same things: of all pairs, and of those that neither ties.

    Args:
      a, b: numbers [N].

    Returns:
      Agreeing minus disagreeing pairs over all pairs, and over the geometric mean of the pairs that each does not tie;
      NaN where there are none.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    above = np.triu_indices(len(a), 1)
    signs = [np.sign(x[:, None] - x[None])[above] for x in (a, b)]
    agreement = float(np.sum(signs[0] * signs[1]))
    untied = float(np.prod([np.sqrt(np.count_nonzero(sign)) for sign in signs]))
    return (agreement / len(above[0]) if len(above[0]) else np.nan), (agreement / untied if untied else np.nan)


def area_under_curve(scores: np.ndarray, right: np.ndarray) -> float:
    """Share of (right, wrong) pairs in which the right one has the higher score, ties counting one half; NaN without
    such pairs.

    Args:
      scores: [N].
      right: bool [N].
    """
    scores, right = np.asarray(scores, np.float64), np.asarray(right, bool)
    difference = scores[right][:, None] - scores[~right][None]
    return float(np.mean((difference > 0) + 0.5 * (difference == 0))) if difference.size else np.nan
