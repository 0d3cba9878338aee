"""Settings of rows of fixed slots. Imports no array library: `--set` is answered before one is loaded."""

import dataclasses
from typing import ClassVar

from srum_jax.errors import check


@dataclasses.dataclass(frozen=True)
class SlotRows:
    """Slots of a row, and how much each holds; a `Rows` but for the field that `code_field` names."""

    token_capacities: ClassVar[tuple[str, ...]] = ("text_capacity", "reading_capacity")
    reading_fields: ClassVar[tuple[str, ...]] = ("reading_capacity", "answer_capacity")  # 0 where nothing is read
    code_field: ClassVar[str]

    samples_per_row: int = 2  # pictures that are drawn
    text_capacity: int = 128  # tokens of each prompt, with what is put around it; longer ones are refused
    readings_per_row: int = 0  # pictures that are read
    reading_capacity: int = 0  # tokens of each: picture, question and answer
    answer_capacity: int = 0  # predicted tokens of each

    def __post_init__(self):
        for field in ("samples_per_row", "text_capacity"):
            check(f"rows.{field}", getattr(self, field) >= 1, "a positive number", getattr(self, field))
        codes = getattr(self, self.code_field)
        check(f"rows.{self.code_field}", codes in ("images", "stored"), "images or stored", codes)
        check("rows.readings_per_row", self.readings_per_row >= 0, "a number that is not negative",
              self.readings_per_row)
        for field in self.reading_fields:
            value = getattr(self, field)
            check(f"rows.{field}", value >= 1 if self.readings_per_row else value == 0,
                  "a positive number" if self.readings_per_row else "0, as readings_per_row is", value)

    @property
    def stored_codes(self) -> bool:
        """See `Rows`."""
        return getattr(self, self.code_field) == "stored"
