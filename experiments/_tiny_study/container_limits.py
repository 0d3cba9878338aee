"""What a container may use of its machine. The operating system's own counts of cores and memory do not say.

Read from the file system of control groups, version 2 or 1: https://docs.kernel.org/admin-guide/cgroup-v2.html.
"""

import math
import pathlib
from collections.abc import Iterator


def core_limit(root: pathlib.Path = pathlib.Path("/")) -> float:
    """Cores' worth of processor time that this process is given; infinite where nothing limits it.

    Args:
      root: of the file system.
    """
    limits = [math.inf]
    for folder in _groups(root, "cpu"):
        words = _words(folder / "cpu.max") or _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
        if len(words) == 2 and all(word.isdecimal() for word in words) and int(words[1]):  # no "max", no -1
            limits.append(int(words[0]) / int(words[1]))
    return min(limits)


def memory_limit(root: pathlib.Path = pathlib.Path("/")) -> float:
    """Bytes of memory that this process and its relatives may use; infinite where nothing limits it.

    Args:
      root: of the file system.
    """
    limits = [math.inf]
    for folder in _groups(root, "memory"):
        words = _words(folder / "memory.max") or _words(folder / "memory.limit_in_bytes")
        if len(words) == 1 and words[0].isdecimal():
            limits.append(int(words[0]))
    return min(limits)


def _groups(root: pathlib.Path, controller: str) -> Iterator[pathlib.Path]:
    """The folders of the groups that this process is in, and of those around them."""
    try:
        lines = (root / "proc/self/cgroup").read_text(errors="replace").splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            base = root / "sys/fs/cgroup"
        elif controller in controllers.split(","):
            base = root / "sys/fs/cgroup" / controller
        else:
            continue
        # A container sees its own group at the top, wherever the path says that it is.
        parts = pathlib.PurePosixPath(path).parts[1:]
        for length in range(len(parts) + 1):
            yield base.joinpath(*parts[:length])


def _words(path: pathlib.Path) -> list[str]:
    """The words of a file; none if it cannot be read."""
    try:
        return path.read_text(errors="replace").split()
    except OSError:
        return []
