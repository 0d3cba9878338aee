"""Runs the questions about many images side by side, so that their calls can be batched."""

from collections.abc import Generator, Sequence
from typing import TypeVar

import numpy as np

from srum_jax.judges.protocol import Judge
from srum_jax.rewards.judgement.calls import Call, Reply

Found = TypeVar("Found")


def run_dialogues(
    dialogues: Sequence[tuple[np.ndarray | None, Generator[Call, Reply, Found]]], judge: Judge
) -> list[Found]:
    """What each dialogue returns.

    Args:
      dialogues: pixels uint8 [H, W, 3] of each image (None: none is shown), and what is asked of it.
      judge: answers the calls; in each round those of all images that still have one.
    """
    found: dict[int, Found] = {}
    waiting = {}
    for number, (_, dialogue) in enumerate(dialogues):
        try:
            waiting[number] = next(dialogue)
        except StopIteration as stop:
            found[number] = stop.value
    while waiting:
        numbers = list(waiting)
        replies = judge.answer([(dialogues[number][0], waiting[number]) for number in numbers])
        for number, reply in zip(numbers, replies, strict=True):
            try:
                waiting[number] = dialogues[number][1].send(reply)
            except StopIteration as stop:
                del waiting[number]
                found[number] = stop.value
    return [found[number] for number in range(len(dialogues))]
