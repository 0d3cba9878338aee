"""Runs the judgements of many images side by side, so that their calls can be batched."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from srum_jax.judges.protocol import Judge
from srum_jax.rewards.judgement.judge_record import Judging


def run_dialogues(judgings: Sequence[tuple[np.ndarray, Judging]], judge: Judge) -> list[dict[str, Any]]:
    """The records of all images.

    Args:
      judgings: pixels uint8 [H, W, 3] of each image, and its judgement.
      judge: answers the calls; in each round those of all images that still have one.
    """
    records: dict[int, dict[str, Any]] = {}
    waiting = {}
    for number, (_, judging) in enumerate(judgings):
        try:
            waiting[number] = next(judging)
        except StopIteration as stop:
            records[number] = stop.value
    while waiting:
        numbers = list(waiting)
        replies = judge.answer([(judgings[number][0], waiting[number]) for number in numbers])
        for number, reply in zip(numbers, replies, strict=True):
            try:
                waiting[number] = judgings[number][1].send(reply)
            except StopIteration as stop:
                del waiting[number]
                records[number] = stop.value
    return [records[number] for number in range(len(judgings))]
