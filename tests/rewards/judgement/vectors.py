"""Worked examples of the reward stage; skipped where they are absent."""

import json

import pytest

from tests.golden import golden_dir


def vectors(name: str):
    """One section of the worked examples."""
    path = golden_dir().parent / "data" / "reward_stage_vectors.json"
    if not path.exists():
        pytest.skip(f"no worked examples at {path}")
    return json.loads(path.read_text())[name]
