"""Which units a stage has still to do: those that are not committed, that are damaged, or that are to be done again.

What is done again is set aside, never deleted, and so is what later stages made of it: see `set_aside`.
"""

import logging
from collections.abc import Callable, Collection, Sequence

from srum_jax.stages.folder import DamagedError, StageFolder, U

_LOGGER = logging.getLogger(__name__)


def units_to_do(
    units: Sequence[U],
    folder: StageFolder,
    is_intact: Callable[[U], bool],
    *,
    repair: bool = False,
    again: Collection[int] = (),
    before_repair: Callable[[U], object] = lambda unit: None,
    on_checked: Callable[[U], object] = lambda unit: None,
) -> list[U]:
    """The units that are not committed. A commit that is not intact is withdrawn, and with it what later stages made of
    it; nothing is deleted.

    Args:
      units: of this process.
      folder: of the stage.
      is_intact: checks a committed unit. False: something of it is lost, and it is made again. DamagedError: something
        of it was changed.
      repair: whether to make units again of which something was changed.
      again: shards to do again.
      before_repair: called with a unit of which something was changed, while it is still committed.
      on_checked: called after each committed unit.

    Raises:
      DamagedError: something was changed since it was written, and `repair` is false.
    """
    committed = folder.committed()
    missing = []
    for unit in units:
        if folder.chunk(unit) not in committed:
            missing.append(unit)
            continue
        try:
            intact = unit.shard not in again and is_intact(unit)
        except DamagedError as error:
            if not repair:
                raise
            _LOGGER.warning("%s", error)
            before_repair(unit)
            intact = False
        if not intact:
            moved = folder.withdraw(unit)
            _LOGGER.warning("made again: unit %s of shard %d; set aside, and to be run again where it is of a later "
                            "stage: %s", unit.name, unit.shard,
                            ", ".join(str(path.relative_to(folder.root)) for path in moved))
            missing.append(unit)
        on_checked(unit)
    return missing
