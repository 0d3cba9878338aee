"""How texts and pictures are laid out as tokens. On the host.

Roles are control tokens; texts of users are encoded by a function that reads no control tokens in them.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from srum_jax.models.janus_pro.tokens import NAMES, SpecialTokens

USER, ASSISTANT = "<|User|>", "<|Assistant|>"
SYSTEM = ("You are a helpful language and vision assistant. You are able to understand the visual content that the "
          "user provides, and assist the user with a variety of tasks using natural language.")
_BETWEEN = "\n\n"


class Encode(Protocol):
    """A tokenizer's `encode`."""

    def __call__(self, text: str, *, control_tokens: bool = False) -> list[int]:
        """Token ids of a text, without tokens around it."""


def dialogue(turns: Sequence[tuple[str, str]], system: str = "") -> str:
    """The reference's template "deepseek" as one text.

    Args:
      turns: role and content, in order; empty content leaves the turn open.
      system: text before them; "" for none.
    """
    text = f"{system}{_BETWEEN}" if system else ""
    for number, (role, content) in enumerate(turns):
        content = content.strip()
        text += f"{role}: {content}{NAMES['eos'] if number % 2 else _BETWEEN}" if content else f"{role}:"
    return text.strip()


def generation_prompt(caption: str, encode: Encode, tokens: SpecialTokens) -> list[int]:
    """What asks for a picture, from the first token to the one that begins the picture."""
    return [tokens.bos, *_asked(caption.strip(), [], encode), tokens.image_start]


def understanding_prompt(
    question: str, num_pictures: int, picture_tokens: int, encode: Encode, tokens: SpecialTokens, system: str = SYSTEM
) -> list[int]:
    """A question about pictures, each on a line of its own before it, with the assistant's turn open.

    Args:
      question: text.
      num_pictures: before it.
      picture_tokens: of each picture.
      encode: text to ids.
      tokens: control tokens.
      system: text before it.
    """
    picture = [tokens.image_start, *[tokens.image] * picture_tokens, tokens.image_end]
    return [tokens.bos, *encode(f"{system}{_BETWEEN}"), *_asked(question.strip(), [picture] * num_pictures, encode)]


def answer_ids(answer: str, encode: Encode, tokens: SpecialTokens) -> list[int]:
    """What follows an understanding prompt: the answer and the token that ends it."""
    return [*encode(f" {answer.strip()}"), tokens.eos]


def _asked(text: str, pictures: Sequence[list[int]], encode: Encode) -> list[int]:
    ids = encode(USER, control_tokens=True)
    before = ": "
    for picture in pictures:
        ids += [*encode(before), *picture]
        before = "\n"
    return [*ids, *encode(f"{before}{text}{_BETWEEN}"), *encode(ASSISTANT, control_tokens=True), *encode(":")]


def without_text(ids: Sequence[int], tokens: SpecialTokens) -> list[int]:
    """A generation prompt that says nothing: as long, padding between its first and its last token."""
    return [ids[0], *[tokens.pad] * (len(ids) - 2), ids[-1]]


def left_padded(prompts: Sequence[Sequence[int]], width: int, pad: int) -> tuple[np.ndarray, np.ndarray]:
    """Prompts that end alike: ids int32 [B, width] and bool [B, width], False for padding.

    Raises:
      ValueError: a row does not hold one of them.
    """
    longest = max(map(len, prompts))
    if longest > width:
        raise ValueError(f"Rows of {width} tokens: expected at least {longest} for the longest prompt.")
    ids = np.full((len(prompts), width), pad, np.int32)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = prompt
    return ids, np.arange(width)[None] >= width - np.asarray([len(prompt) for prompt in prompts])[:, None]


def expanded(ids: Sequence[int], picture_tokens: int, tokens: SpecialTokens) -> list[int]:
    """Encoded text with one token for each picture, with all tokens of each in its place."""
    picture = [tokens.image_start, *[tokens.image] * picture_tokens, tokens.image_end]
    return [token for old in ids for token in (picture if old == tokens.image else [old])]
