"""What can be wrong with records, and how it is said."""

import dataclasses

from srum_jax.errors import BadInput, Failure


class SchemaError(BadInput):
    """One field of a record is not as the schema demands."""

    def __init__(self, field: str, expected: str, found: str):
        super().__init__(field, expected, found)
        self.field, self.expected, self.found = field, expected, found

    def __str__(self) -> str:
        return f"schema_error: field '{self.field}': expected {self.expected}, found {self.found}"


def require(condition: bool, field: str, expected: str, found: str) -> None:
    """Raises SchemaError unless the condition holds."""
    if not condition:
        raise SchemaError(field, expected, found)


class DuplicateIdError(SchemaError):
    """The id of a record was used before in its set."""


class ImageError(BadInput):
    """Bytes that are not an image which can be trained on."""


class ImageModeError(ImageError):
    """A readable image without an 8-bit RGB form."""


class CapacityError(BadInput):
    """A sample does not fit into the fixed buffers of a row."""


class DataError(Failure, ValueError):
    """Records that cannot be used: names the file, the record where there is one, and the reason."""

    def __init__(self, file: str, record_number: int | None, reason: str):
        super().__init__(file, record_number, reason)
        self.file, self.record_number, self.reason = file, record_number, reason

    def __str__(self) -> str:
        place = self.file if self.record_number is None else f"{self.file}: record {self.record_number}"
        return f"{place}: {self.reason}"


@dataclasses.dataclass(frozen=True)
class BadRecord:
    """A record that was left out of a batch."""

    file: str  # the shard
    record_number: int  # its place in the shard, from 0
    reason: str

    def __str__(self) -> str:
        return f"{self.file}: record {self.record_number}: {self.reason}"
