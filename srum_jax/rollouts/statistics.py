"""What is logged of a round: values with their weights, so that means over several rounds are exact."""

import collections
from collections.abc import Iterator, Sequence

import numpy as np

from srum_jax.rewards.groups import spread
from srum_jax.rollouts.candidates import Group, Round
from srum_jax.rollouts.config import UNDERSTANDING, RolloutConfig

_WORDS = 4  # of a run of words whose frequency is watched
Sums = dict[str, tuple[float, float]]  # total and weight by name


def flat(groups: Sequence[Group], min_gap: float) -> bool:
    """Whether no group has members that differ in reward."""
    return all(_gap(group) <= min_gap for group in groups)


def statistics(drawn: Round, config: RolloutConfig) -> Sums:
    """Every metric of a round by name (spec section 5.3)."""
    found: Sums = {}
    for direction in dict.fromkeys(group.direction for group in drawn.groups):
        groups = [group for group in drawn.groups if group.direction == direction]
        found |= {f"rollouts/{direction}_{name}": values for name, values in _of_direction(groups, config)}
        seconds = drawn.seconds.get(f"{direction}_outputs", 0.0)
        made = {"outputs": sum(len(group.outputs) for group in groups), "tokens": sum(group.tokens for group in groups)}
        found |= {f"speed/{direction}_{name}_per_second": (float(count), seconds) for name, count in made.items()
                  if count and seconds}
    found |= {f"time/round_{name}": (seconds, 1.0) for name, seconds in drawn.seconds.items()}
    return found


def _of_direction(groups: Sequence[Group], config: RolloutConfig) -> Iterator[tuple[str, tuple[float, float]]]:
    rewards = [group.rewards[group.valid] for group in groups]
    everyone = np.concatenate(rewards)
    members = float(sum(len(group.outputs) for group in groups))
    if len(everyone):
        yield "reward", (float(everyone.sum()), float(len(everyone)))
        yield "reward_std", (float(everyone.std()), 1.0)
    several = [values for values in rewards if len(values) > 1]
    yield "reward_std_in_group", (float(sum(values.std(ddof=1) for values in several)), float(len(several)))
    gaps = [_gap(group) for group in groups]
    yield "reward_gap", (float(sum(gaps)), float(len(groups)))
    for percent in (25, 50, 75):
        yield f"reward_gap_p{percent}", (float(np.percentile(gaps, percent)), 1.0)
    yield "degenerate_share", (float(sum(gap <= config.min_gap for gap in gaps)), float(len(groups)))
    problems = collections.Counter(problem for group in groups for problem in group.problems)
    for problem in sorted(filter(None, problems)):
        yield f"share_{problem}", (float(problems[problem]), members)
    yield "distinct_outputs", (float(sum(_distinct(group) for group in groups)), float(len(groups)))
    if groups[0].direction == UNDERSTANDING:
        yield from _of_captions(groups)


def _of_captions(groups: Sequence[Group]) -> Iterator[tuple[str, tuple[float, float]]]:
    words = [text.split() for group in groups for text in group.outputs]
    lengths = np.array([len(text) for text in words], np.float64)
    yield "caption_words", (float(lengths.sum()), float(len(lengths)))
    for percent in (5, 95):
        yield f"caption_words_p{percent}", (float(np.percentile(lengths, percent)), 1.0)
    runs = collections.Counter(tuple(text[n : n + _WORDS]) for text in words for n in range(len(text) - _WORDS + 1))
    if runs:
        yield "commonest_run_share", (float(max(runs.values())), float(runs.total()))
    centred = [(lengths_of - lengths_of.mean(), rewards - rewards.mean()) for lengths_of, rewards in (
        (np.array([len(text.split()) for text, ok in zip(group.outputs, group.valid, strict=True) if ok], float),
         group.rewards[group.valid]) for group in groups if group.valid.any())]
    if centred:
        length, reward = (np.concatenate(part) for part in zip(*centred, strict=True))
        scale = float(np.sqrt((length**2).sum() * (reward**2).sum()))
        if scale > 0:
            yield "length_correlation", (float((length * reward).sum()) / scale, 1.0)


def _distinct(group: Group) -> int:
    return len({output if isinstance(output, str) else output.tobytes() for output in group.outputs})


def _gap(group: Group) -> float:
    return float(spread(group.rewards[None], group.valid[None])[0])
