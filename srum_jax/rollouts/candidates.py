"""A round's outputs and their rewards: pictures for prompts, captions for pictures, each scored by the other direction.

N outputs of one input · K draws
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from srum_jax.data.stored_code import StoredCode
from srum_jax.inference.protocols import Answerer, Generator, Scorer
from srum_jax.inference.requests import ImageRequest, Question, RequestError
from srum_jax.rewards.dual_likelihood import strata
from srum_jax.rollouts.config import GENERATION, UNDERSTANDING, RolloutConfig
from srum_jax.rollouts.inputs import Inputs, numbers_of_round, stable_seed

Item = TypeVar("Item")

EMPTY, TRUNCATED, COPIED, NOT_FINITE = "empty", "truncated", "copies_the_request", "not_finite"
UNREADABLE = "unreadable"  # no prompt that a picture could be drawn for


@dataclasses.dataclass(frozen=True)
class Group:
    """What was drawn for one input, and how good it is."""

    direction: str
    name: str  # of the input, for messages and seeds
    source: str | np.ndarray  # the prompt, or the picture uint8 [H, W, 3]
    outputs: tuple[Any, ...]  # N pictures uint8 [H, W, 3], or N captions
    rewards: np.ndarray  # float64 [N]; of members that do not count NaN
    problems: tuple[str | None, ...]  # N: why a member does not count
    codes: tuple[StoredCode, ...] | None = None  # N: what pictures were sampled as, where the generator says it
    tokens: int = 0  # that were written, over all members

    @property
    def valid(self) -> np.ndarray:
        """Bool [N]: which members count."""
        return np.array([problem is None for problem in self.problems])


@dataclasses.dataclass(frozen=True)
class Models:
    """Who draws and who scores."""

    generator: Generator
    answerer: Answerer
    scorer: Scorer


@dataclasses.dataclass(frozen=True)
class Round:
    """All groups of a round, and the seconds that each phase took."""

    groups: tuple[Group, ...]
    seconds: dict[str, float]


def draw_round(number: int, models: Models, inputs: Inputs, config: RolloutConfig, seed: int) -> Round:
    """Draws and rewards. A function of the models' weights, the seed and the round's number.

    Args:
      number: of the round, from 0.
      models: who draws and who scores.
      inputs: of the run.
      config: of the rounds.
      seed: of the run.
    """
    groups, seconds = [], {}
    for direction in config.directions_of(number):
        count, per_round, order = ((len(inputs.prompts), config.prompts_per_round, "prompts")
                                   if direction == GENERATION else
                                   (len(inputs.pictures), config.pictures_per_round, "pictures"))
        chosen = numbers_of_round(count, per_round, number, stable_seed(seed, order))
        drawn = groups_of(direction, chosen, number, models, inputs, config, seed, seconds)
        if config.shuffle_rewards:
            drawn = [shuffled(group, stable_seed(seed, number, "shuffle", direction, group.name)) for group in drawn]
        groups += drawn
    return Round(tuple(groups), seconds)


def groups_of(
    direction: str, chosen: Sequence[int], label: object, models: Models, inputs: Inputs, config: RolloutConfig,
    seed: int, seconds: dict[str, float],
) -> list[Group]:
    """Draws outputs for some inputs of one direction, and rewards them.

    Args:
      direction: GENERATION or UNDERSTANDING.
      chosen: numbers of the inputs.
      label: a part of every seed, beside that of the run: what is drawn under one label is drawn alike each time.
      models, inputs, config, seed: as for `draw_round`.
      seconds: to which the times of both phases are added.
    """
    began = time.monotonic()
    if direction == GENERATION:
        drawn = _pictures(label, [(f"prompt {n}", inputs.prompts[n]) for n in chosen], models, config, seed)
    else:
        drawn = _captions(label, [(inputs.pictures[n].name, inputs.pixels(n)) for n in chosen], models, config, seed)
    seconds[f"{direction}_outputs"], began = time.monotonic() - began, time.monotonic()
    reward = _rewards_of_pictures if direction == GENERATION else _rewards_of_captions
    found = reward(label, drawn, models.scorer, config, seed)
    seconds[f"{direction}_rewards"] = time.monotonic() - began
    return found


def _pictures(label: object, named, models: Models, config: RolloutConfig, seed: int) -> list[Group]:
    requests = [ImageRequest(prompt, stable_seed(seed, label, GENERATION, name, member), config.height, config.width)
                for name, prompt in named for member in range(config.group_size)]
    made = in_batches(models.generator.generate, requests, config.batch_size)
    groups = []
    for (name, prompt), outputs in zip(named, _grouped(made, config.group_size), strict=True):
        codes = tuple(image.code for image in outputs)
        groups.append(_group(GENERATION, name, prompt, [image.pixels for image in outputs], [None] * len(outputs),
                             codes=None if None in codes else codes))
    return groups


def _captions(label: object, named, models: Models, config: RolloutConfig, seed: int) -> list[Group]:
    request = config.rewards.request
    questions = [Question(request, (pixels,), stable_seed(seed, label, UNDERSTANDING, name, member))
                 for name, pixels in named for member in range(config.group_size)]
    made = in_batches(lambda batch: models.answerer.answer(batch, sampler=config.caption, allow_non_finite=True),
                      questions, config.batch_size)

    def problem(answer) -> str | None:
        if not answer.healthy:
            return NOT_FINITE
        if not answer.text:
            return EMPTY
        try:
            models.generator.check(ImageRequest(answer.text, 0))
        except RequestError:
            return UNREADABLE
        return TRUNCATED if answer.truncated else COPIED if answer.text == request.strip() else None

    return [_group(UNDERSTANDING, name, pixels, [answer.text for answer in outputs], list(map(problem, outputs)),
                   tokens=sum(answer.num_tokens for answer in outputs))
            for (name, pixels), outputs in zip(named, _grouped(made, config.group_size), strict=True)]


def _group(direction: str, name: str, source: Any, outputs: list, problems: list, **more: Any) -> Group:
    return Group(direction, name, source, tuple(outputs), np.full(len(outputs), np.nan), tuple(problems), **more)


def _rewards_of_pictures(label: object, groups: list[Group], scorer: Scorer, config: RolloutConfig, seed: int
                         ) -> list[Group]:
    """R_G: the likelihood of the prompt, given each picture."""
    request = config.rewards.request
    pairs = [(Question(request, (pixels,)), group.source) for group in groups for pixels in group.outputs]

    def score(batch: Sequence[tuple[Question, str]]) -> np.ndarray:
        questions, prompts = zip(*batch, strict=True)
        return scorer.texts(questions, prompts, count_end=config.rewards.count_end)

    found = in_batches(score, pairs, config.batch_size)
    return [rewarded(group, rewards) for group, rewards in
            zip(groups, _grouped(found, config.group_size), strict=True)]


def _rewards_of_captions(label: object, groups: list[Group], scorer: Scorer, config: RolloutConfig, seed: int
                         ) -> list[Group]:
    """R_U: how well each caption leads to the picture. Equal captions are scored once; the draws are common to all."""
    rules, asked = config.rewards, []
    for group in groups:
        noise = stable_seed(seed, label, "noise", group.name)
        times = strata(rules.low, rules.high, rules.draws, np.random.default_rng(noise).random())
        texts = dict.fromkeys(text for text, ok in zip(group.outputs, group.valid, strict=True) if ok)
        asked += [(group, text, (ImageRequest(text, noise), group.source, times)) for text in texts]

    def score(batch: Sequence[tuple[ImageRequest, np.ndarray, np.ndarray]]) -> np.ndarray:
        requests, pictures, times = zip(*batch, strict=True)
        return np.mean(scorer.pictures(requests, pictures, np.stack(times)), axis=1)

    found = in_batches(score, [item for _, _, item in asked], config.batch_size)
    by_caption = {(group.name, text): value for (group, text, _), value in zip(asked, found, strict=True)}
    return [rewarded(group, [by_caption.get((group.name, text), np.nan) for text in group.outputs])
            for group in groups]


def rewarded(group: Group, rewards: Sequence[float]) -> Group:
    """The group with its rewards; a member whose reward is no number does not count."""
    rewards = np.asarray(rewards, np.float64)
    problems = tuple(NOT_FINITE if problem is None and not np.isfinite(reward) else problem
                     for problem, reward in zip(group.problems, rewards, strict=True))
    counts = np.array([problem is None for problem in problems])
    return dataclasses.replace(group, rewards=np.where(counts, rewards, np.nan), problems=problems)


def shuffled(group: Group, seed: int) -> Group:
    """The group with the rewards of its valid members in another order: a control. Any order is as likely."""
    rewards = group.rewards.copy()
    order = np.random.Generator(np.random.Philox(key=[seed, 0]))
    rewards[group.valid] = order.permutation(rewards[group.valid])
    return dataclasses.replace(group, rewards=rewards)


def in_batches(function: Callable[[list[Item]], Sequence[Any]], items: Sequence[Item], size: int) -> list[Any]:
    """Applies a function to batches of one size, the last one filled up with its first item; results in order."""
    results: list[Any] = []
    for first in range(0, len(items), size):
        batch = list(items[first : first + size])
        results += list(function(batch + [batch[0]] * (size - len(batch))))[: len(batch)]
    return results


def _grouped(values: list[Any], size: int) -> list[list[Any]]:
    return [values[first : first + size] for first in range(0, len(values), size)]
