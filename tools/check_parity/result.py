"""What a comparison found, and how groups of tensors are compared."""

import dataclasses
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import numpy as np
from etils import epath

from srum_jax.storage.reading import is_hidden

# (name of one tensor, expected, found). Expected is None where the case lacks a tensor that its format demands, found
# is None where nothing was recomputed for it.
Pair = tuple[str, np.ndarray | None, np.ndarray | None]


@dataclasses.dataclass(frozen=True)
class GroupResult:
    """One line of the report."""

    name: str
    worst_absolute: float  # largest absolute difference of any value in the group
    worst_relative: float  # largest relative L2 difference of any tensor in the group
    tolerance: str
    num_compared: int  # tensors, or entries of a JSON list
    ok: bool
    detail: str = ""  # which tensor is out or missing, and by how much


@dataclasses.dataclass(frozen=True)
class Unchecked:
    """Something that the folder holds and that was not compared, said plainly."""

    name: str
    reason: str


def compare_floats(name: str, pairs: Iterable[Pair], absolute: float, relative_l2: float = math.inf) -> GroupResult:
    """Every tensor must agree within `absolute` per value and, if given, `relative_l2` as a whole.

    Args:
      name: of the group.
      pairs: its tensors.
      absolute: largest allowed difference of a value. NaN never agrees.
      relative_l2: largest allowed norm of the difference over the norm of what was expected.
    """
    bound = f"abs {absolute:.0e}" + (f", rel {relative_l2:.0e}" if relative_l2 < math.inf else "")
    return _compare(name, pairs, bound, lambda error, relative: error <= absolute and relative <= relative_l2)


def compare_to_peak(name: str, pair: Pair, share: float, floor: float) -> GroupResult:
    """One tensor, which must agree within `share` of the largest magnitude expected of it, plus `floor`, per value."""
    _, expected, _ = pair
    absolute = floor + (0.0 if expected is None else share * float(np.max(np.abs(expected), initial=0.0)))
    return _compare(name, [pair], f"abs {share:.0e} of the peak + {floor:.0e}", lambda error, _: error <= absolute)


def compare_relative(name: str, pairs: Iterable[Pair], relative_l2: float, floor: float = 0.0) -> GroupResult:
    """Every tensor must agree within `relative_l2` as a whole, or within `floor` per value."""
    bound = f"rel {relative_l2:.0e} or abs {floor:.0e}"
    return _compare(name, pairs, bound, lambda error, relative: relative <= relative_l2 or error <= floor)


def compare_exact(name: str, pairs: Iterable[Pair]) -> GroupResult:
    """Every tensor must be equal, value by value."""
    return _compare(name, pairs, "exact", lambda error, relative: error == 0.0)


def compare_mostly(
    name: str, pairs: Iterable[Pair], absolute: float, outlier_absolute: float, outlier_share: float
) -> GroupResult:
    """All but `outlier_share` of the values of the group within `absolute`, the rest within `outlier_absolute`."""
    pairs = list(pairs)
    bound = f"abs {absolute:.0e}; {outlier_share:.1%} up to {outlier_absolute:.0e}"
    result = _compare(name, pairs, bound, lambda error, relative: error <= outlier_absolute)
    size = max(1, sum(np.size(expected) for _, expected, _ in pairs))
    outliers = sum(int(np.sum(np.abs(expected.astype(np.float64) - found) > absolute))
                   for _, expected, found in pairs
                   if expected is not None and found is not None and expected.shape == found.shape)
    if outliers > outlier_share * size:
        detail = f"{outliers} of {size} values differ by more than {absolute:.0e}; {result.detail}"
        return dataclasses.replace(result, ok=False, detail=detail)
    return result


def compare_recorded(
    name: str, expected: Mapping[str, np.ndarray], found: Mapping[str, Any], given: Collection[str] = (), *,
    tolerance: Callable[[str], Mapping[str, float]],
) -> list[GroupResult | Unchecked]:
    """Every tensor that a file holds, one group each: integers exactly, floats within a tolerance.

    Args:
      name: of the file, for the report.
      expected: its tensors.
      found: what was recomputed.
      given: inputs of the case.
      tolerance: of a tensor, by its name: `share` and `floor` of `compare_to_peak`, or `absolute` of `compare_floats`.
    """
    results: list[GroupResult | Unchecked] = []
    for key in sorted(expected):
        title = f"{name}/{key}"
        if key in given:
            results.append(Unchecked(title, "an input of the case, used as it is"))
            continue
        value = None if found.get(key) is None else np.asarray(found[key])
        pair = (key, expected[key], value)
        allowed = tolerance(key)
        if "absolute" in allowed:
            results.append(compare_floats(title, [pair], **allowed))
        elif not np.issubdtype(expected[key].dtype, np.floating):
            results.append(compare_exact(title, [pair]))
        else:
            results.append(compare_to_peak(title, pair, **allowed))
    return results


def compare_values(name: str, num_compared: int, wrong: Collection[str]) -> GroupResult:
    """Values that are no tensors; `wrong` says which of them differ, and how."""
    return GroupResult(name, float(len(wrong)), 0.0, "exact", num_compared, bool(num_compared) and not wrong,
                       "; ".join(wrong))


def compare_names(name: str, expected: Collection[str], found: Collection[str]) -> GroupResult:
    """Two lists of the same names, in any order."""
    return compare_values(name, len(expected), [f"{one}: in one of the two lists only"
                                                for one in sorted(set(expected) ^ set(found))])


def unknown_files(directory: epath.Path, known: Collection[str]) -> list[Unchecked]:
    """What a folder holds besides the files that were looked at."""
    return [Unchecked(path.name, "describes the case, or is unknown to this command")
            for path in sorted(directory.iterdir()) if path.name not in known and not is_hidden(path.name)]


def differences(expected: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """Largest absolute difference and relative L2 difference; infinite where shapes differ or a value is not finite."""
    expected, found = np.asarray(expected), np.asarray(found)
    if expected.shape != found.shape:
        return float("inf"), float("inf")
    if not expected.size:
        return 0.0, 0.0
    with np.errstate(invalid="ignore"):
        difference = expected.astype(np.float64) - found.astype(np.float64)
    difference = np.where(np.equal(expected, found), 0.0, difference)  # equal infinities agree
    if not np.all(np.isfinite(difference)):
        return float("inf"), float("inf")
    norm = np.linalg.norm(np.where(np.isfinite(expected), expected, 0.0).astype(np.float64))
    error = np.linalg.norm(difference)
    return float(np.max(np.abs(difference))), float(error / norm) if norm > 0 else (0.0 if error == 0 else float("inf"))


def _compare(
    name: str, pairs: Iterable[Pair], bound: str, agrees: Callable[[float, float], bool]
) -> GroupResult:
    worst_absolute = worst_relative = 0.0
    num_compared, complaints = 0, []
    for tensor, expected, found in pairs:
        if expected is None:
            complaints.append(f"{tensor}: missing in the case")
            continue
        num_compared += 1
        if found is None:
            complaints.append(f"{tensor}: missing, nothing was recomputed for it")
            continue
        if np.shape(expected) != np.shape(found):
            complaints.append(f"{tensor}: expected shape {np.shape(expected)}, found {np.shape(found)}")
            worst_absolute = worst_relative = float("inf")
            continue
        error, relative = differences(expected, found)
        worst_absolute, worst_relative = max(worst_absolute, error), max(worst_relative, relative)
        if not agrees(error, relative):
            complaints.append(f"{tensor}: absolute {error:.2e}, relative {relative:.2e}")
    if not num_compared and not complaints:
        complaints.append("nothing to compare")
    return GroupResult(name, worst_absolute, worst_relative, bound, num_compared, not complaints, "; ".join(complaints))
