"""Limits of containers, read from made-up file systems."""

import math
import os

import pytest

from experiments._tiny_study import side_by_side, work
from experiments._tiny_study.container_limits import core_limit, memory_limit


def file_system(root, groups, **files):
    files = {"proc/self/cgroup": groups} | files
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize("groups, files, cores, memory", [
    ("0::/\n", {"cpu.max": "150000 100000\n", "memory.max": "4294967296\n"}, 1.5, 2**32),
    ("0::/\n", {"cpu.max": "max 100000\n", "memory.max": "max\n"}, math.inf, math.inf),
    ("0::/\n", {}, math.inf, math.inf),
    # The path is that of the host, and what is mounted is the group itself.
    ("0::/docker/1234\n", {"cpu.max": "200000 100000\n"}, 2, math.inf),
    # The limit of the group around it holds too.
    ("0::/a/b\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000", "a/memory.max": "7",
                   "a/b/memory.max": "9"}, 3, 7),
    ("5:cpu,cpuacct:/\n4:memory:/x\n1:cpuset:/\n0::/\n",
     {"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n", "memory/x/memory.limit_in_bytes": "8\n",
      "cpuset/cpu.max": "1 1"}, 0.5, 8),
    ("5:cpu:/\n4:memory:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n",
                               "memory/memory.limit_in_bytes": "9223372036854771712\n"}, math.inf, 9223372036854771712),
    ("0::/\n", {"cpu.max": "", "memory.max": "no number"}, math.inf, math.inf),
])
def test_what_control_groups_say(tmp_path, groups, files, cores, memory):
    root = file_system(tmp_path, groups, **{f"sys/fs/cgroup/{name}": text for name, text in files.items()})
    assert core_limit(root) == cores and memory_limit(root) == memory


def test_jobs_and_cores_keep_to_the_limits(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(side_by_side, "core_limit", lambda: 2.5)
    monkeypatch.setattr(work, "memory_limit", lambda: math.inf)
    monkeypatch.setattr(os, "sysconf", lambda _: 2**20)
    assert len(set(side_by_side.available_cores())) == 3 and work.default_jobs() == 3
    assert len({tuple(side_by_side.available_cores()) for _ in range(20)}) > 1
    monkeypatch.setattr(side_by_side, "core_limit", lambda: 0.5)
    assert len(side_by_side.available_cores()) == 1 and work.default_jobs() == 1
    monkeypatch.setattr(side_by_side, "core_limit", lambda: math.inf)
    assert side_by_side.available_cores() == list(range(64)) and work.default_jobs() == 8
    for memory, jobs in ((5 << 30, 2), (100, 1)):
        monkeypatch.setattr(work, "memory_limit", lambda memory=memory: memory)
        assert work.default_jobs() == jobs


def test_elsewhere_nothing_limits(tmp_path):
    assert core_limit(tmp_path) == memory_limit(tmp_path) == math.inf
