"""What a prompt names, and whether it says where things are. Deterministic: every stage computes the same."""

import functools
import re

from srum_jax.rewards.judgement.words import content_words, lemma, tokens, word_lists


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
