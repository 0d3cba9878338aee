"""What a model is asked, and what it answers."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from PIL import Image

from srum_jax.data.stored_code import StoredCode
from srum_jax.errors import BadInput

Request = TypeVar("Request")
Read = TypeVar("Read")
Picture = Image.Image | np.ndarray  # an array is uint8 [H, W, 3]


class RequestError(BadInput):
    """A request that the model cannot serve; names the field, what was expected and what was found."""


@dataclasses.dataclass(frozen=True)
class ImageRequest:
    """One image to be made."""

    prompt: str
    seed: int  # fixes the image, whatever else is in the batch; 0 <= seed < 2^63
    height: int | None = None  # pixels; None: the default size of the model, or that of the resized source
    width: int | None = None
    image: Picture | None = None  # source of an edit


@dataclasses.dataclass(frozen=True)
class Question:
    """One text to be answered, about any number of images."""

    prompt: str
    images: tuple[Picture, ...] = ()
    seed: int = 0  # matters only when sampling


@dataclasses.dataclass(frozen=True)
class GeneratedImage:
    """One image that was made."""

    pixels: np.ndarray  # uint8 [H, W, 3]
    plan: str | None  # what was thought first, in think mode
    plan_truncated: bool = False  # the plan reached its token limit
    # What was sampled, of models that sample codes: to decode and encode a picture gives other codes.
    code: StoredCode | None = None


@dataclasses.dataclass(frozen=True)
class Answer:
    """One answer."""

    text: str  # what follows the thought
    thought: str | None  # None without think mode, or if the thought was never closed
    truncated: bool  # the token limit was reached
    num_tokens: int
    raw: str  # the whole text
    healthy: bool = True  # False: the model's numbers were none, and the text means nothing


def each_read(read: Callable[[Request], Read], requests: Sequence[Request]) -> list[Read]:
    """Every request as a model is given it.

    Raises:
      RequestError: what is wrong with one of them, and its number.
    """

    def one(number: int, request: Request) -> Read:
        try:
            return read(request)
        except RequestError as error:
            raise RequestError(f"request {number}: {error}") from error

    return [one(number, request) for number, request in enumerate(requests)]
