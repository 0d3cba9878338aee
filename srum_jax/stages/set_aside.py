"""Taking files out of a run without deleting them: they go to OUT/old/, and so does what was made from them.

    old/generate/chunks/00003-of-00016/000000003-c00.jsonl.1      the first file of that name that was set aside
    old/export.2                                                  the second export

What only sums up other files (done files, summaries) is removed; it is written again from what it sums up.
"""

from etils import epath

from srum_jax.stages import EXPORT, STAGES

OLD = "old"


def set_aside(root: epath.Path, path: epath.Path) -> epath.Path | None:
    """Moves a file or folder of a run to a new name below `old/`; returns it, or None if there was nothing to move.

    Args:
      root: of the run.
      path: below it.
    """
    target = root / OLD / path.relative_to(root)
    target.parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while (free := target.parent / f"{target.name}.{number}").exists():
        number += 1
    try:
        path.rename(free)
    except FileNotFoundError:  # it never was there, or another process came first
        return None
    return free


def withdraw(root: epath.Path, stage: str, shard_name: str, chunk_name: str) -> list[epath.Path]:
    """Takes back a committed unit of a stage, and all that later stages made of it; returns what was moved.

    The stage's own chunk is moved last: a run that is stopped in between finds the same reason to withdraw it again.

    Args:
      root: of the run.
      stage: one of `stages.STAGES`.
      shard_name: as in file names, "00003-of-00016".
      chunk_name: file name of the unit's chunk.
    """
    moved = withdraw_export(root)
    for name in reversed(STAGES[STAGES.index(stage) :]):
        for path in (root / f"summary-{name}.json", root / name / "done" / f"{shard_name}.json"):
            path.unlink(missing_ok=True)
        chunk = root / name / "chunks" / shard_name / chunk_name
        moved.append(set_aside(root, chunk) if chunk.exists() else None)
    return [path for path in moved if path is not None]


def withdraw_export(root: epath.Path) -> list[epath.Path]:
    """Sets the records of a run aside, with the list of what became no record."""
    rejects = root / "rejects"
    listed = sorted(rejects.glob(f"{EXPORT}-*.jsonl")) if rejects.exists() else []
    (root / f"summary-{EXPORT}.json").unlink(missing_ok=True)
    paths = [path for path in (root / EXPORT, *listed) if path.exists()]
    return [moved for path in paths if (moved := set_aside(root, path)) is not None]
