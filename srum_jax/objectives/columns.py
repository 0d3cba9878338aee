"""Which numbers a batch carries beside its tokens, and what they are computed from."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from srum_jax.rewards.boxes import Box


class ColumnNames(NamedTuple):
    """The columns that an objective wants, by what they lie beside."""

    image: tuple[str, ...] = ()  # image tokens
    text: tuple[str, ...] = ()  # predicted text tokens


NO_COLUMNS = ColumnNames()


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
