"""Worked examples of the reward stage."""

from tests.golden import golden_json


def vectors(name: str):
    """One section of the worked examples."""
    return golden_json("reward_stage_vectors.json")[name]
