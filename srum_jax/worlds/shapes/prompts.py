"""Prompts of the shapes world: sampling, their fixed grammar in both directions, and the held-out set.

    prompt  = phrase | phrase relation phrase [" and " phrase] | phrase {", " phrase} " and " phrase
    phrase  = ("a" | "an" | "two" .. "six") [texture] [color] shape["s" | "es"]

"a striped red circle left of a blue square and two green crosses" is one of the category `complex`.
"""

import dataclasses
import hashlib

import numpy as np

from srum_jax.errors import BadInput
from srum_jax.worlds.shapes.scene import (
    ATTRIBUTES,
    CATEGORIES,
    COLORS,
    COMPACT_SHAPES,
    DEPTH_RELATIONS,
    RELATIONS,
    SHAPES,
    SIZE_RELATIONS,
    SPATIAL_RELATIONS,
    TEXTURES,
    Phrase,
    Prompt,
    Relation,
)

NUMBER_WORDS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
MAX_OBJECTS = 6  # of a prompt
_VALUES = {"shape": SHAPES, "color": COLORS, "texture": TEXTURES}
HELD_OUT_SHARE = 0.125
_WORD_OF_NUMBER = {number: word for word, number in NUMBER_WORDS.items()}
_PLURALS = {shape: shape + ("es" if shape.endswith("s") else "s") for shape in SHAPES}
_SINGULARS = {plural: shape for shape, plural in _PLURALS.items()}


def prompt_text(prompt: Prompt) -> str:
    """The sentence of a prompt."""
    texts = [_phrase_text(phrase) for phrase in prompt.phrases]
    if prompt.relation is not None:
        texts[:2] = [f"{texts[0]} {prompt.relation.kind} {texts[1]}"]
    if len(texts) > 1:
        texts[-2:] = [f"{texts[-2]} and {texts[-1]}"]
    return ", ".join(texts)


def _phrase_text(phrase: Phrase) -> str:
    words = [word for word in (phrase.texture, phrase.color) if word is not None]
    words.append(phrase.shape if phrase.count == 1 else _PLURALS[phrase.shape])
    article = "an" if words[0][0] in "aeiou" else "a"
    return " ".join([article if phrase.count == 1 else _WORD_OF_NUMBER[phrase.count], *words])


def parse_prompt(text: str, category: str = "") -> Prompt:
    """The prompt of a sentence: the inverse of `prompt_text`.

    Args:
      text: a sentence of the grammar.
      category: stored in the prompt; the text does not tell it.

    Raises:
      BadInput: with the text, and what was expected where.
    """
    for kind in RELATIONS:
        subject, found, rest = text.partition(f" {kind} ")
        if not found:
            continue
        parts = [subject, *rest.split(" and ")]
        if len(parts) > 3:
            raise BadInput(
                f"prompt {text!r}: expected at most one phrase after the relation, found {rest!r}."
            )
        return Prompt(tuple(_parse_phrase(part, text) for part in parts), Relation(kind), category)
    *listed, last = text.split(", ")
    return Prompt(
        tuple(_parse_phrase(part, text) for part in (*listed, *last.split(" and "))), None, category
    )


def _parse_phrase(part: str, text: str) -> Phrase:
    words = part.split(" ")
    count = 1 if words[0] in ("a", "an") else NUMBER_WORDS.get(words[0])
    noun = words[-1] if count == 1 else _SINGULARS.get(words[-1])
    if len(words) < 2 or count is None or noun not in SHAPES:
        raise BadInput(
            f"prompt {text!r}: expected a phrase such as 'a red circle' or 'two rings', found {part!r}."
        )
    adjectives = words[1:-1]
    texture = adjectives.pop(0) if adjectives and adjectives[0] in TEXTURES else None
    color = adjectives.pop(0) if adjectives and adjectives[0] in COLORS else None
    phrase = Phrase(noun, color, texture, count)
    if adjectives or _phrase_text(phrase) != part:
        raise BadInput(f"prompt {text!r}: expected '[number] [texture] [color] shape', found {part!r}.")
    return phrase


def is_held_out(text: str) -> bool:
    """True for a fixed share of all sentences, never to be trained on. Depends on nothing but the text."""
    digest = hashlib.sha256(f"srum-shapes-held-out-v1|{text}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < HELD_OUT_SHARE * 2**64


def sample_prompt(rng: np.random.Generator, category: str | None = None, held_out: bool = False) -> Prompt:
    """Draws a prompt of the training set, or of the held-out set; the two have no sentence in common.

    Args:
      rng: where randomness comes from.
      category: of CATEGORIES; None: one of them, each as likely.
      held_out: which of the two sets.

    Raises:
      BadInput: an unknown category.
    """
    if category is None:
        category = CATEGORIES[rng.integers(len(CATEGORIES))]
    if category not in _SAMPLERS:
        raise BadInput(f"category: expected one of {', '.join(CATEGORIES)}; found {category!r}.")
    while True:
        phrases, kinds = _SAMPLERS[category](rng)
        relation = Relation(_choose(rng, kinds)) if kinds else None
        prompt = Prompt(phrases, relation, category)
        if _told_apart(phrases) and is_held_out(prompt_text(prompt)) == held_out:
            return prompt


def neighbour_of(prompt: Prompt, rng: np.random.Generator) -> Prompt:
    """A prompt of the training set that says one thing differently: an attribute, a number or the relation."""
    changes = [(number, name) for number, phrase in enumerate(prompt.phrases) for name, _ in phrase.stated()]
    changes += [(number, "count") for number in range(len(prompt.phrases))] + [(0, "relation")] * 2
    while True:
        number, name = changes[rng.integers(len(changes))]
        phrases, relation = list(prompt.phrases), prompt.relation
        if name != "relation":
            values = tuple(range(1, MAX_OBJECTS)) if name == "count" else _VALUES[name]
            phrases[number] = dataclasses.replace(phrases[number], **{name: values[rng.integers(len(values))]})
        elif relation is not None:
            relation = dataclasses.replace(relation, kind=_choose(rng, relation.family))
        found = Prompt(tuple(phrases), relation, prompt.category)
        if (found != prompt and found.num_objects <= MAX_OBJECTS and _told_apart(found.phrases)
                and not is_held_out(prompt_text(found))):
            return found


def _told_apart(phrases: tuple[Phrase, ...]) -> bool:
    """True when no object could be meant by two of the phrases."""

    def exclude(first: Phrase, second: Phrase) -> bool:
        pairs = ((getattr(first, name), getattr(second, name)) for name in ATTRIBUTES)
        return any(a is not None and b is not None and a != b for a, b in pairs)

    return all(exclude(a, b) for number, a in enumerate(phrases) for b in phrases[:number])


def _choose(rng: np.random.Generator, values: tuple[str, ...]) -> str:
    return values[rng.integers(len(values))]


def _colored(rng: np.random.Generator, shapes: tuple[str, ...] = SHAPES, count: int = 1) -> Phrase:
    return Phrase(_choose(rng, shapes), _choose(rng, COLORS), count=count)


def _color(rng):
    first, second = rng.permutation(COLORS)[:2].tolist()
    return (Phrase(_choose(rng, SHAPES), first), Phrase(_choose(rng, SHAPES), second)), ()


def _shape(rng):
    return tuple(Phrase(shape) for shape in rng.permutation(SHAPES)[: rng.integers(2, 4)].tolist()), ()


def _texture(rng):
    return tuple(Phrase(_choose(rng, SHAPES), texture=_choose(rng, TEXTURES)) for _ in range(2)), ()


def _spatial(rng):
    return (_colored(rng), _colored(rng)), SPATIAL_RELATIONS


def _depth(rng):
    colors = rng.permutation(COLORS)[:2].tolist()
    return tuple(Phrase(_choose(rng, COMPACT_SHAPES), color) for color in colors), DEPTH_RELATIONS


def _size(rng):
    return (_colored(rng), _colored(rng)), SIZE_RELATIONS


def _numeracy(rng):
    if rng.random() < 0.5:
        return (_colored(rng, count=int(rng.integers(2, MAX_OBJECTS))),), ()
    first = int(rng.integers(1, MAX_OBJECTS - 1))
    second = int(rng.integers(1 if first > 1 else 2, MAX_OBJECTS - first + 1))
    return (_colored(rng, count=first), _colored(rng, count=second)), ()


def _complex(rng):
    first = Phrase(_choose(rng, SHAPES), _choose(rng, COLORS), _choose(rng, TEXTURES))
    return (first, _colored(rng), _colored(rng, count=int(rng.integers(1, 3)))), SPATIAL_RELATIONS


_SAMPLERS = dict(
    zip(CATEGORIES, (_color, _shape, _texture, _spatial, _depth, _size, _numeracy, _complex), strict=True)
)
