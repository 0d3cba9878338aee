"""Settings of Janus-Pro's rows. Imports no array library: `--set` is answered before one is loaded."""

import dataclasses
from typing import ClassVar

from srum_jax.errors import check


@dataclasses.dataclass(frozen=True)
class JanusRows:
    """Slots of a row, and how much each holds."""

    token_capacities: ClassVar[tuple[str, ...]] = ("text_capacity", "reading_capacity")

    samples_per_row: int = 2  # pictures that are drawn
    text_capacity: int = 128  # tokens of each prompt, with what is put around it; longer ones are refused
    codes: str = "images"  # encoded in every step; "stored": those in the records (tools.precompute_latents)
    readings_per_row: int = 0  # pictures that are read
    reading_capacity: int = 0  # tokens of each: picture, question and answer
    answer_capacity: int = 0  # predicted tokens of each

    def __post_init__(self):
        for field in ("samples_per_row", "text_capacity"):
            check(f"rows.{field}", getattr(self, field) >= 1, "a positive number", getattr(self, field))
        check("rows.codes", self.codes in ("images", "stored"), "images or stored", self.codes)
        check("rows.readings_per_row", self.readings_per_row >= 0, "a number that is not negative",
              self.readings_per_row)
        for field in ("reading_capacity", "answer_capacity"):
            value = getattr(self, field)
            check(f"rows.{field}", value >= 1 if self.readings_per_row else value == 0,
                  "a positive number" if self.readings_per_row else "0, as readings_per_row is", value)

    @property
    def stored_codes(self) -> bool:
        """Whether codes come from the records."""
        return self.codes == "stored"
