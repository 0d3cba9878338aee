"""Exact rewards in the world of shapes: from the procedure that drew an image, or from its pixels.

Each object gets a score, and the whole image one; both lie in [-1, 1], as a judge's scores do.

    region   1     all that the prompt states about the object is right
             0     right in itself, but in a relation that does not hold, or one too many of its kind
            -0.5   one attribute is wrong
            -1     two or more are wrong, or the prompt asks for nothing like it
    global   2 f - 1,  f = (right objects / max(objects asked for, objects seen))^2,  a quarter of it if the
             relation does not hold

So a faithful image scores 1 everywhere, one right object out of two gives -0.5, a wrong relation -0.5.
"""

import collections
import dataclasses
import itertools

import numpy as np
import scipy  # its rooms are opened when they are entered

from srum_jax.rewards.boxes import Box
from srum_jax.worlds.shapes.mistakes import Fault
from srum_jax.worlds.shapes.perception import look
from srum_jax.worlds.shapes.prompts import parse_prompt
from srum_jax.worlds.shapes.scene import (
    DEPTH_RELATIONS,
    SIZE_RELATIONS,
    SPATIAL_RELATIONS,
    Phrase,
    Prompt,
    Scene,
)
from srum_jax.worlds.shapes.sight import SeenObject, Sight, sight_of_scene

RIGHT, NEUTRAL, ONE_WRONG, WRONG = 1.0, 0.0, -0.5, -1.0
BROKEN_RELATION_FACTOR = 0.25
LARGER_RATIO = 1.2  # of sides: from here on "larger than"
SAME_RATIO = 1.1  # up to here "the same size as"
_COSTS = {"shape": 1.25, "color": 1.0, "texture": 1.0}  # a wrong colour is likelier than a wrong shape
_NO_RELATION = "none of them"


@dataclasses.dataclass(frozen=True)
class RegionScore:
    """The judgement of one object."""

    box: Box  # half-open pixels
    score: float  # [-1, 1]
    object: str  # what is seen, in words
    phrase: int | None  # index of the phrase that it was taken for; None: of none
    reason: str  # empty for the best score


@dataclasses.dataclass(frozen=True)
class Judgement:
    """The judgement of an image."""

    regions: tuple[RegionScore, ...]
    global_score: float  # [-1, 1]
    faults: tuple[Fault, ...]  # in increasing order
    well_formed: float = 1.0  # see Sight; says nothing about the prompt

    @property
    def correct(self) -> bool:
        """True when the image shows what the prompt asks for."""
        return not self.faults


def judge_scene(prompt: Prompt | str, scene: Scene, size: int) -> Judgement:
    """Scores of a scene drawn at `size` pixels, from the procedure that draws it."""
    return judge(prompt, sight_of_scene(scene, size))


def judge_image(prompt: Prompt | str, image: np.ndarray) -> Judgement:
    """Scores of any image, uint8 [H, W, 3], from its pixels alone."""
    return judge(prompt, look(image))


def judge(prompt: Prompt | str, sight: Sight) -> Judgement:
    """Scores of what is seen. Objects are matched with phrases so that as little as possible is wrong."""
    prompt = parse_prompt(prompt) if isinstance(prompt, str) else prompt
    matching = _match(prompt, sight)
    relation = prompt.relation
    faults = []
    if matching.relation_found is not None:
        faults.append(Fault("relation", relation.subject, relation.kind, matching.relation_found))
    counts = collections.Counter(matching.phrases.values())
    crowded = set()
    for number, seen in enumerate(sight.objects):
        if number in matching.phrases:
            continue
        fitting = [index for index, phrase in enumerate(prompt.phrases) if not _mismatches(phrase, seen)]
        if fitting:
            counts[fitting[0]] += 1
            crowded.add(fitting[0])
        else:
            faults.append(Fault("count", -1, "nothing else", describe(seen)))
    faults += [
        Fault("count", index, str(phrase.count), str(counts[index]))
        for index, phrase in enumerate(prompt.phrases)
        if counts[index] != phrase.count
    ]

    regions, num_right = [], 0
    for number, seen in enumerate(sight.objects):
        index = matching.phrases.get(number)
        wrong = [] if index is None else _mismatches(prompt.phrases[index], seen)
        faults += [Fault(name, index, expected, getattr(seen, name) or "") for name, expected in wrong]
        num_right += index is not None and not wrong
        score, reason = _region_score(prompt, matching, crowded, number, seen, wrong)
        regions.append(RegionScore(seen.box, score, describe(seen), index, reason))
    share = num_right / max(prompt.num_objects, len(sight.objects))
    fit = share**2 * (1.0 if matching.relation_found is None else BROKEN_RELATION_FACTOR)
    return Judgement(tuple(regions), round(2 * fit - 1, 6), tuple(sorted(faults)), sight.well_formed)


def describe(seen: SeenObject) -> str:
    """An object in words."""
    return " ".join(word for word in (seen.texture, seen.color, seen.shape or "thing") if word)


@dataclasses.dataclass(frozen=True)
class _Matching:
    """Which object stands for which phrase."""

    phrases: dict[int, int]  # object -> phrase
    related: tuple[int, ...] = ()  # objects that the relation is about
    relation_found: str | None = None  # what holds instead; None if the relation holds or cannot be judged


def _mismatches(phrase: Phrase, seen: SeenObject) -> list[tuple[str, str]]:
    return [(name, value) for name, value in phrase.stated() if getattr(seen, name) != value]


def _match(prompt: Prompt, sight: Sight) -> _Matching:
    wanted = [number for number, phrase in enumerate(prompt.phrases) for _ in range(phrase.count)]
    costs = np.array(
        [
            [
                sum(_COSTS[name] for name, _ in _mismatches(prompt.phrases[number], seen))
                for seen in sight.objects
            ]
            for number in wanted
        ]
    ).reshape(len(wanted), len(sight.objects))
    rows, columns = scipy.optimize.linear_sum_assignment(costs)
    plain = {int(column): wanted[row] for row, column in zip(rows, columns, strict=True)}
    relation = prompt.relation
    if relation is None or len(plain) < 2 or not {relation.subject, relation.object} <= set(plain.values()):
        return _Matching(plain)

    # Where several matchings are equally good, one in which the relation holds is taken.
    subject_row, object_row = wanted.index(relation.subject), wanted.index(relation.object)
    other_rows = [row for row in range(len(wanted)) if row not in (subject_row, object_row)]
    least = costs[rows, columns].sum()
    candidates = []
    for pair in itertools.permutations(range(len(sight.objects)), 2):
        fixed = costs[subject_row, pair[0]] + costs[object_row, pair[1]]
        if fixed > least:
            continue
        other_columns = [column for column in range(len(sight.objects)) if column not in pair]
        rest = costs[np.ix_(other_rows, other_columns)]
        rest_rows, rest_columns = scipy.optimize.linear_sum_assignment(rest)
        phrases = {
            other_columns[column]: wanted[other_rows[row]]
            for row, column in zip(rest_rows, rest_columns, strict=True)
        }
        phrases |= {pair[0]: relation.subject, pair[1]: relation.object}
        found = _relation_between(relation.kind, sight, *pair)
        broken = found != relation.kind
        matching = _Matching(phrases, pair, found if broken else None)
        cost = fixed + rest[rest_rows, rest_columns].sum()
        candidates.append((cost, broken, pair, matching))
    return min(candidates, key=lambda candidate: candidate[:3])[-1] if candidates else _Matching(plain)


def _relation_between(kind: str, sight: Sight, subject: int, other: int) -> str:
    """`kind` if it holds, else the relation of the same family that does."""
    first, second = sight.objects[subject], sight.objects[other]
    if kind in DEPTH_RELATIONS:
        if (subject, other) in sight.covers:
            return "in front of"
        return "behind" if (other, subject) in sight.covers else _NO_RELATION
    if kind in SIZE_RELATIONS:
        ratio = first.side / second.side
        holds = {
            "larger than": ratio >= LARGER_RATIO,
            "smaller than": 1 / ratio >= LARGER_RATIO,
            "the same size as": max(ratio, 1 / ratio) <= SAME_RATIO,
        }
        return next((name for name, value in holds.items() if value), _NO_RELATION)
    dx, dy = (a - b for a, b in zip(first.center, second.center, strict=True))
    if abs(dx) == abs(dy):
        return _NO_RELATION
    left, right, above, below = SPATIAL_RELATIONS
    if abs(dx) > abs(dy):
        return left if dx < 0 else right
    return above if dy < 0 else below


def _region_score(
    prompt: Prompt,
    matching: _Matching,
    crowded: set[int],
    number: int,
    seen: SeenObject,
    wrong: list[tuple[str, str]],
) -> tuple[float, str]:
    index = matching.phrases.get(number)
    if wrong:
        reason = " and ".join(f"{name} should be {expected}" for name, expected in wrong)
        return (ONE_WRONG if len(wrong) == 1 else WRONG), reason
    if index is None and all(_mismatches(prompt.phrases[other], seen) for other in crowded):
        return WRONG, "not asked for"
    if index is None or index in crowded:
        return NEUTRAL, "one too many"
    if number in matching.related and matching.relation_found is not None:
        return NEUTRAL, f"should be {prompt.relation.kind}" if number == matching.related[
            0
        ] else "in the wrong relation"
    return RIGHT, ""
