"""Settings of BLIP3o's rows. Imports no array library: `--set` is answered before one is loaded."""

import dataclasses
from typing import ClassVar

from srum_jax.errors import check


@dataclasses.dataclass(frozen=True)
class Blip3oRows:
    """Slots of a row, and how much each holds."""

    token_capacities: ClassVar[tuple[str, ...]] = ("text_capacity", "reading_capacity")

    samples_per_row: int = 2  # pictures that are drawn
    text_capacity: int = 256  # tokens of each: its prompt, [IMG] and the queries; longer prompts are refused
    assistant_turn: str = "closed"  # before [IMG], as in the authors' training; "open" as when they draw
    features: str = "images"  # encoded in every step; "stored": those in the records (tools.precompute_latents)
    readings_per_row: int = 0  # pictures that are read
    reading_capacity: int = 0  # tokens of each: picture, question and answer
    reading_windows: int = 0  # of a picture that is read, 112 pixels along each side
    answer_capacity: int = 0  # predicted tokens of each

    def __post_init__(self):
        for field in ("samples_per_row", "text_capacity"):
            check(f"rows.{field}", getattr(self, field) >= 1, "a positive number", getattr(self, field))
        check("rows.assistant_turn", self.assistant_turn in ("closed", "open"), "closed or open", self.assistant_turn)
        check("rows.features", self.features in ("images", "stored"), "images or stored", self.features)
        check("rows.readings_per_row", self.readings_per_row >= 0, "a number that is not negative",
              self.readings_per_row)
        for field in ("reading_capacity", "reading_windows", "answer_capacity"):
            value = getattr(self, field)
            check(f"rows.{field}", value >= 1 if self.readings_per_row else value == 0,
                  "a positive number" if self.readings_per_row else "0, as readings_per_row is", value)

    @property
    def stored_codes(self) -> bool:
        """Whether features come from the records."""
        return self.features == "stored"
