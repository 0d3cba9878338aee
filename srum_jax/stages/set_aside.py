"""Taking files out of a run without deleting them: they go to OUT/old/, and so does what was made from them.

    old/generate/chunks/00003-of-00016/000000003-c00.jsonl.1      the first file of that name that was set aside
    old/export.2                                                  the second export

What only sums up other files (done files, summaries) is removed; it is written again from what it sums up.
"""

from etils import epath

from srum_jax.stages import EXPORT

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


def withdraw_export(root: epath.Path) -> list[epath.Path]:
    """Sets the records of a run aside, with the list of what became no record."""
    rejects = root / "rejects"
    listed = sorted(rejects.glob(f"{EXPORT}-*.jsonl")) if rejects.exists() else []
    (root / f"summary-{EXPORT}.json").unlink(missing_ok=True)
    paths = [path for path in (root / EXPORT, *listed) if path.exists()]
    return [moved for path in paths if (moved := set_aside(root, path)) is not None]
