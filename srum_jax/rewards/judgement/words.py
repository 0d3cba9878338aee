"""Words of prompts and of a judge's replies: tokens, base forms, keywords, and the lists by which they are sorted.

Deterministic: every stage computes the same.
"""

import functools
import importlib.resources
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

# Runs of letters and digits, with apostrophes and hyphens kept inside.
_TOKEN = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
_POSSESSIVE = re.compile(r"['\u2019]s?$")
_ENDINGS_WITHOUT_ES = ("ches", "shes", "xes", "sses", "zes")
_KEPT_FINAL_S = ("ss", "us", "is")


@functools.cache
def word_lists() -> Mapping[str, Any]:
    """The lists that this package ships, by name."""
    text = (importlib.resources.files(__package__) / "word_lists.json").read_text(encoding="utf-8")
    return json.loads(text)


def tokens(text: str) -> list[str]:
    """Lower-case words of a text, without a possessive at their end."""
    normalised = unicodedata.normalize("NFC", text).lower()
    return [word for word in (_POSSESSIVE.sub("", token) for token in _TOKEN.findall(normalised)) if word]


def lemma(word: str) -> str:
    """The singular of a lower-case noun, by a table of irregular words and the regular endings."""
    irregular = word_lists()["irregular"]
    if word in irregular:
        return irregular[word]
    if word.endswith("ies") and len(word) > 3:
        return word[:-3] + "y"
    if word.endswith(_ENDINGS_WITHOUT_ES) or word in word_lists()["oes"]:
        return word[:-2]
    if word.endswith("s") and not word.endswith(_KEPT_FINAL_S):
        return word[:-1]
    return word


def content_words(words: Sequence[str], keep_shapes: bool = False) -> list[str]:
    """What is left without function and number words, colours, sizes, materials, shapes, digits and -ing forms.

    Args:
      words: lower-case tokens.
      keep_shapes: whether names of shapes stay.
    """
    removed = _removed_words(keep_shapes)
    kept = word_lists()["ing_keep"]
    return [
        word for word in words
        if word not in removed and not word.isdigit() and (not word.endswith("ing") or lemma(word) in kept)
    ]


@functools.cache
def _removed_words(keep_shapes: bool) -> frozenset[str]:
    names = ("function_words", "colours", "sizes", "materials", *(() if keep_shapes else ("shapes",)))
    return frozenset(word for name in names for word in word_lists()[name])


def keywords(prompt: str) -> list[str]:
    """The nouns that a prompt names, as base forms in order of first appearance.

    Some verbs survive; they only widen what may be matched. Names of shapes count only where nothing else is left.
    """
    words = tokens(prompt)
    kept = content_words(words) or content_words(words, keep_shapes=True)
    return list(dict.fromkeys(lemma(word) for word in kept))


def has_directive(prompt: str) -> bool:
    """Whether a prompt says how things are arranged ("left of", "behind", "in the centre"). Plain in, on, at do not."""
    return any(pattern.search(prompt) for pattern in _directives())


@functools.cache
def _directives() -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(pattern, re.IGNORECASE) for pattern in word_lists()["directive_patterns"])
