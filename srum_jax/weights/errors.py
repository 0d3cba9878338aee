"""The one error of this package, and how several problems become one message."""

from collections.abc import Sequence

from srum_jax.errors import BadInput

_MOST_LINES = 20


class WeightsError(BadInput):
    """Stored weights are missing, malformed, or do not belong to the model; the message says what to do."""


def raise_together(heading: str, problems: Sequence[str]) -> None:
    """Raises one error that lists all problems; returns if there are none.

    Raises:
      WeightsError: heading, then one line per problem.
    """
    if not problems:
        return
    lines = list(problems[:_MOST_LINES])
    if len(problems) > _MOST_LINES:
        lines.append(f"... and {len(problems) - _MOST_LINES} more")
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    raise WeightsError(f"{heading}: {count}\n" + "\n".join(f"  - {line}" for line in lines))
