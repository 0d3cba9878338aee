"""Plants one known mistake into a draft: the image will be crisp, and wrong."""

import dataclasses

import numpy as np

from srum_jax.worlds.shapes.layout import Draft
from srum_jax.worlds.shapes.scene import COLORS, DEPTH_RELATIONS, SHAPES, TEXTURES, Prompt

MISTAKES = ("color", "shape", "texture", "swap", "count", "relation")
_VALUES = {"color": COLORS, "shape": SHAPES, "texture": TEXTURES}


@dataclasses.dataclass(frozen=True, order=True)
class Fault:
    """One way in which an image does not fit its prompt."""

    kind: str  # "color", "shape", "texture", "count" or "relation"
    phrase: int  # index of the phrase; of the subject for a relation; -1 for objects that fit no phrase
    expected: str
    found: str  # "" where nothing definite was found

    def __str__(self) -> str:
        found = self.found or "something else"
        return f"{self.kind} of phrase {self.phrase}: expected {self.expected}, found {found}"


def possible_mistakes(prompt: Prompt) -> tuple[str, ...]:
    """The kinds of mistakes that images of this prompt can have."""
    stated = {name for phrase in prompt.phrases for name, _ in phrase.stated()}
    kinds = ["count", *(name for name in ("color", "shape", "texture") if name in stated)]
    if _swappable(prompt):
        kinds.append("swap")
    if prompt.relation is not None:
        kinds.append("relation")
    return tuple(kind for kind in MISTAKES if kind in kinds)


def plant(
    prompt: Prompt, draft: Draft, kind: str, rng: np.random.Generator
) -> tuple[Draft, tuple[Fault, ...]]:
    """Makes a draft wrong.

    Args:
      prompt: what was asked for.
      draft: fits the prompt.
      kind: one of `possible_mistakes(prompt)`. "swap" exchanges the colours, or else
        the textures, of two objects.
      rng: chooses the object and the wrong value.

    Returns:
      The wrong draft, and its faults in increasing order.

    Raises:
      ValueError: this prompt cannot have this mistake.
    """
    if kind not in possible_mistakes(prompt):
        raise ValueError(f"kind: expected one of {', '.join(possible_mistakes(prompt))}; found {kind!r}.")
    if kind == "relation":
        return _wrong_relation(draft, rng)
    if kind == "count":
        return _wrong_count(prompt, draft, rng)
    if kind == "swap":
        return _swap(prompt, draft)
    return _wrong_attribute(prompt, draft, kind, rng)


def _wrong_relation(draft: Draft, rng: np.random.Generator) -> tuple[Draft, tuple[Fault, ...]]:
    relation = draft.relation
    others = [kind for kind in relation.family if kind != relation.kind]
    wrong = dataclasses.replace(relation, kind=others[rng.integers(len(others))])
    return dataclasses.replace(draft, relation=wrong), (
        Fault("relation", relation.subject, relation.kind, wrong.kind),
    )


def _wrong_count(prompt: Prompt, draft: Draft, rng: np.random.Generator) -> tuple[Draft, tuple[Fault, ...]]:
    number = int(rng.integers(len(prompt.phrases)))
    count = prompt.phrases[number].count
    places = [place for place, entry in enumerate(draft.objects) if entry.phrase == number]
    objects = list(draft.objects)
    # An image is never left empty, and two overlapping objects leave no room for a third.
    crowded = prompt.relation is not None and prompt.relation.kind in DEPTH_RELATIONS
    add = not crowded and (len(objects) == 1 or rng.random() < 0.5)
    if add:
        objects.append(objects[places[0]])
    else:
        del objects[places[-1]]
    fault = Fault("count", number, str(count), str(count + (1 if add else -1)))
    return dataclasses.replace(draft, objects=tuple(objects)), (fault,)


def _swappable(prompt: Prompt) -> str | None:
    """The attribute that the first two phrases can exchange so that both are wrong."""
    if len(prompt.phrases) < 2:
        return None
    first, second = prompt.phrases[:2]
    if first.shape == second.shape or (first.count, second.count) != (1, 1) or len(prompt.phrases) > 2:
        return None
    for name in ("color", "texture"):
        values = getattr(first, name), getattr(second, name)
        if None not in values and values[0] != values[1]:
            return name
    return None


def _swap(prompt: Prompt, draft: Draft) -> tuple[Draft, tuple[Fault, ...]]:
    name = _swappable(prompt)
    first, second = draft.objects
    values = getattr(first, name), getattr(second, name)
    swapped = (
        dataclasses.replace(first, **{name: values[1]}),
        dataclasses.replace(second, **{name: values[0]}),
    )
    faults = (Fault(name, 0, *values), Fault(name, 1, *reversed(values)))
    return dataclasses.replace(draft, objects=swapped), faults


def _wrong_attribute(
    prompt: Prompt, draft: Draft, name: str, rng: np.random.Generator
) -> tuple[Draft, tuple[Fault, ...]]:
    places = [
        place
        for place, entry in enumerate(draft.objects)
        if getattr(prompt.phrases[entry.phrase], name) is not None
    ]
    place = places[rng.integers(len(places))]
    entry = draft.objects[place]
    expected = getattr(entry, name)
    avoided = {expected}
    if prompt.relation is not None and prompt.relation.kind in DEPTH_RELATIONS:
        avoided |= {other.color for other in draft.objects}  # overlapping objects must differ in colour
        avoided |= {"cross", "ring"}  # and stay in one piece
    values = [value for value in _VALUES[name] if value not in avoided]
    wrong = values[rng.integers(len(values))]
    objects = list(draft.objects)
    objects[place] = dataclasses.replace(entry, **{name: wrong})
    return dataclasses.replace(draft, objects=tuple(objects)), (Fault(name, entry.phrase, expected, wrong),)
