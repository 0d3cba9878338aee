"""How tokens are laid out for each use of the model. On the host.

Texts are encoded by a function that reads no control tokens in them, so that a caption cannot end its turn.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from srum_jax.models.blip3o.config import Blip3oConfig, SpecialTokens

SYSTEM = "You are a helpful assistant."
INSTRUCTION = "Please generate image based on the following caption: "
NEGATIVE = " "  # what the pixel decoder is guided away from: no template around it

Encode = Callable[[str], Sequence[int]]
AssistantTurn = Literal["closed", "open"]  # before [IMG]; the reference trains with the one and draws with the other


@dataclasses.dataclass(frozen=True)
class ImagePrompts:
    """A batch of prompts, each followed by [IMG] and the places of the queries, padded behind them."""

    ids: np.ndarray  # int32 [B, S]
    real: np.ndarray  # bool [B, S]
    first_query: np.ndarray  # int32 [B]


def generation_prompt(caption: str, encode: Encode, tokens: SpecialTokens, turn: AssistantTurn) -> list[int]:
    """The text that asks for a picture, up to and without [IMG].

    Args:
      caption: what the picture shows.
      encode: text to ids.
      tokens: control tokens.
      turn: whether the assistant's turn is closed, as in the reference's training, or open, as when it draws.
    """
    ids = [*_opening(encode, tokens), *encode(f"user\n{INSTRUCTION}{caption}"), *_reply(encode, tokens)]
    return [*ids, tokens.turn_end, *encode("\n")] if turn == "closed" else ids


def understanding_prompt(
    question: str, picture_tokens: Sequence[int], encode: Encode, tokens: SpecialTokens, system: str = SYSTEM
) -> list[int]:
    """A question about pictures, with the assistant's turn open.

    Args:
      question: text behind the pictures.
      picture_tokens: tokens that each picture takes.
      encode: text to ids.
      tokens: control tokens.
      system: text of the system's turn.
    """
    opening = _opening(encode, tokens, system)
    if not picture_tokens:  # as one text, which may have other tokens than its parts
        return [*opening, *encode(f"user\n{question}"), *_reply(encode, tokens)]
    pictures = [token for count in picture_tokens
                for token in (tokens.vision_start, *[tokens.image_pad] * count, tokens.vision_end)]
    return [*opening, *encode("user\n"), *pictures, *encode(question), *_reply(encode, tokens)]


def with_queries(prompts: Sequence[Sequence[int]], config: Blip3oConfig, width: int | None = None) -> ImagePrompts:
    """Texts cut to what leaves room for [IMG] and the queries, with these behind them.

    Args:
      prompts: ids of each text.
      config: of the model.
      width: S; None for as wide as the longest needs.

    Raises:
      ValueError: a row does not hold a text with its queries.
    """
    tokens, tail = config.special_tokens, config.num_queries + 1
    texts = [list(prompt[: config.max_prompt_tokens - tail]) for prompt in prompts]
    longest = max(map(len, texts)) + tail
    width = longest if width is None else width
    if longest > width:
        raise ValueError(f"Rows of {width} tokens: expected at least {longest} for the longest prompt with its "
                         f"{config.num_queries} queries.")
    ids = np.full((len(texts), width), tokens.pad, np.int32)
    for row, text in enumerate(texts):
        ids[row, : len(text) + tail] = [*text, tokens.image_start, *[tokens.image_query] * config.num_queries]
    first = np.asarray([len(text) + 1 for text in texts], np.int32)
    return ImagePrompts(ids, np.arange(width)[None] < (first + config.num_queries)[:, None], first)


def _opening(encode: Encode, tokens: SpecialTokens, system: str = SYSTEM) -> list[int]:
    return [tokens.turn_start, *encode(f"system\n{system}"), tokens.turn_end, *encode("\n"), tokens.turn_start]


def _reply(encode: Encode, tokens: SpecialTokens) -> list[int]:
    return [tokens.turn_end, *encode("\n"), tokens.turn_start, *encode("assistant\n")]
