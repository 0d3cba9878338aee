"""Does a region show something that the prompt names?

The judge names the object in a region, and may claim a keyword for it; its words are checked against the prompt's.
"""

import dataclasses
import difflib
import enum
from collections.abc import Callable, Sequence

from srum_jax.rewards.judgement.words import content_words, lemma, tokens, word_lists

_NEAR_SPELLING = 0.85
_NEAR_SPELLING_LENGTH = 5  # letters; shorter words are near too many others
CLAIM_BACKGROUND, CLAIM_NONE = "BACKGROUND", "NONE"


class Shows(enum.StrEnum):
    """What a region shows, seen from the prompt."""

    MATCH = "match"
    BACKGROUND = "background"
    UNMATCHED = "unmatched"


@dataclasses.dataclass(frozen=True)
class Decision:
    """What was decided about one region."""

    shows: Shows
    keyword: str | None  # of the prompt, where it matches
    flags: tuple[str, ...] = ()  # "claim_only", "claim_differs", "bad_claim"


def verdict_of_object(
    object_text: str, keywords: Sequence[str], synonyms: Sequence[Sequence[str]] | None = None
) -> Decision:
    """From the name that the judge gave to the object alone.

    Equal words are tried first, then synonyms, then near spellings; within each the prompt's first keyword wins.

    Args:
      object_text: of the reply.
      keywords: of the prompt, base forms.
      synonyms: groups of base forms; None for the shipped ones.
    """
    words = [lemma(word) for word in tokens(object_text)]
    groups = [set(group) for group in (word_lists()["synonyms"] if synonyms is None else synonyms)]
    tests: tuple[Callable[[str, str], bool], ...] = (
        lambda keyword, word: keyword == word,
        lambda keyword, word: any(keyword in group and word in group for group in groups),
        _nearly_equal,
    )
    for test in tests:
        for keyword in keywords:
            if any(test(keyword, word) for word in words):
                return Decision(Shows.MATCH, keyword)
    rest = {lemma(word) for word in content_words(tokens(object_text))}
    if rest & set(word_lists()["background"]):
        return Decision(Shows.BACKGROUND, None)
    return Decision(Shows.UNMATCHED, None)


def may_be_same_object(one: str, other: str, synonyms: Sequence[Sequence[str]] | None = None) -> bool:
    """Whether two names share a word, a synonym or a near spelling; a name that says nothing contradicts nothing.

    Names that judges gave to one region in two calls. Where many differ, the second call counted the regions otherwise.

    Args:
      one, other: of replies; may be empty.
      synonyms: as for `verdict_of_object`.
    """
    words, others = ([lemma(word) for word in content_words(tokens(text), keep_shapes=True)] for text in (one, other))
    return not words or not others or verdict_of_object(one, others, synonyms).shows is Shows.MATCH


def verdict(
    object_text: str,
    claim: str | None,
    keywords: Sequence[str],
    *,
    strict: bool = False,
    synonyms: Sequence[Sequence[str]] | None = None,
) -> Decision:
    """From the object's name and the keyword that the judge claims for it.

    A claim of a keyword is believed where the name says otherwise, unless `strict`; a name that matches is believed
    where the claim says otherwise.

    Args:
      object_text: of the reply; may be empty.
      claim: a keyword, "BACKGROUND", "NONE", or None where the reply has no such line.
      keywords: of the prompt, base forms.
      strict: whether a claim alone is not enough.
      synonyms: as for `verdict_of_object`.
    """
    named = verdict_of_object(object_text, keywords, synonyms)
    claimed = _claimed_keyword(claim, keywords)
    if claimed is not None:
        if named.shows is Shows.MATCH:
            return named
        return named if strict else Decision(Shows.MATCH, claimed, ("claim_only",))
    said = (claim or CLAIM_NONE).strip().upper()
    flags = () if said in (CLAIM_BACKGROUND, CLAIM_NONE) else ("bad_claim",)
    if named.shows is Shows.MATCH:
        return dataclasses.replace(named, flags=flags or ("claim_differs",))
    if said == CLAIM_BACKGROUND:
        return Decision(Shows.BACKGROUND, None, flags)
    return dataclasses.replace(named, flags=flags)


def _claimed_keyword(claim: str | None, keywords: Sequence[str]) -> str | None:
    if claim is None:
        return None
    words = [lemma(word) for word in tokens(claim)]
    return next((keyword for keyword in keywords if words == [keyword]), None)


def _nearly_equal(keyword: str, word: str) -> bool:
    if min(len(keyword), len(word)) < _NEAR_SPELLING_LENGTH:
        return False
    return difflib.SequenceMatcher(None, keyword, word).ratio() >= _NEAR_SPELLING
