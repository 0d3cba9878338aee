"""Which numbers a batch carries beside its tokens, and what they are computed from.

Some columns are not known when a row is packed: scores of the batch itself under other weights, as they were before a
round's first update (`OLD`) or when the run began (`REFERENCE`). They are 0 until they are measured, under the very
draws of the step that gets the batch.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from srum_jax.rewards.boxes import Box


class ColumnNames(NamedTuple):
    """The columns that an objective wants, by what they lie beside."""

    image: tuple[str, ...] = ()  # image tokens
    text: tuple[str, ...] = ()  # predicted text tokens

    @property
    def pairs_pictures(self) -> bool:
        """Whether a picture is compared with the one before it in its row: then both are seen under one noise."""
        return "pair" in self.image


NO_COLUMNS = ColumnNames()

# Names of a log probability, and of the error that stands in its place for pictures of a flow.
OLD = ("old_log_prob", "old_error")
REFERENCE = ("reference_log_prob", "reference_error")
MEASURED = frozenset({*OLD, *REFERENCE})


class JudgedRegion(Protocol):
    """A part of a picture and what a judge said of it."""

    box: Box
    score: float


class Judged(Protocol):
    """A judged picture; reward records are."""

    image_width: int
    image_height: int
    regions: Sequence[JudgedRegion]
    global_score: float | None
    provider: str
