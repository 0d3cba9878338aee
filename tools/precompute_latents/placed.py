"""A record on its way from one set to another."""

import dataclasses

from srum_jax.data.errors import DataError
from srum_jax.data.schema import RewardRecord


@dataclasses.dataclass(frozen=True)
class Placed:
    """A record and where it was read."""

    record: RewardRecord
    file: str
    number: int

    def error(self, reason: Exception) -> DataError:
        """What is wrong with it."""
        return DataError(self.file, self.number, str(reason))
