"""The largest batch whose programs all fit, found by trying."""

import math
from collections.abc import Callable, Sequence

_FIRST_JUMP = 8  # from the smallest batch to the second that is tried


def largest_batch(
    programs: Sequence[str], needed: Callable[[str, int], float], limit: float, step: int, most: int, start: int = 0
) -> tuple[int, str | None]:
    """Compiles few programs: memory is nearly linear in the batch, so a line through what is known guesses.

    Every answer is confirmed: the batch was compiled and fits, and one step more was compiled and does not.

    Args:
      programs: names, those that need most memory first; each is tried within the limit of those before.
      needed: bytes of a program with a batch, infinite if the compiler refuses it; rises with the batch.
      limit: bytes that there are.
      step: batches are multiples of this.
      most: batches beyond this are not tried.
      start: tried first; a good guess saves compilations.

    Returns:
      The largest batch, 0 if none fits; and the program that sets the limit, None if it is `most`.
    """
    largest, limited_by = most // step, None  # in steps
    for number, program in enumerate(programs):
        # What holds for the program before probably holds for this one.
        first = largest if number else max(start // step, 1)
        found = _most_steps(lambda steps, program=program: needed(program, steps * step), limit, largest, first)
        if found < largest:
            largest, limited_by = found, program
    return largest * step, limited_by


def _most_steps(needed: Callable[[int], float], limit: float, most: int, first: int) -> int:
    """The largest number up to `most` that needs no more than the limit; 0 if none does. Tries `first` first."""
    good, bad = 0, most + 1
    known: dict[int, float] = {}
    guess = first
    while bad - good > 1:
        guess = min(max(guess, good + 1), bad - 1)
        known[guess] = needed(guess)
        good, bad = (guess, bad) if known[guess] <= limit else (good, guess)
        guess = _guess(known, limit, good, bad)
    return good


def _guess(known: dict[int, float], limit: float, good: int, bad: int) -> int:
    finite = sorted((steps, size) for steps, size in known.items() if math.isfinite(size))
    if not finite:
        return (good + bad) // 2
    if len(finite) == 1:
        ((steps, size),) = finite
        return _FIRST_JUMP if steps == 1 and size <= limit else math.floor(steps * limit / size)
    (low, low_size), (high, high_size) = finite[-2:]
    slope = (high_size - low_size) / (high - low)
    if slope <= 0:
        return 2 * good if 2 * good < bad else (good + bad) // 2
    return math.floor(high + (limit - high_size) / slope)
