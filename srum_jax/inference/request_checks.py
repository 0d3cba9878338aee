"""What requests to any model have in common, checked before anything is computed. All raise RequestError."""

import abc
import dataclasses
import numbers
import re
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from srum_jax.data.errors import ImageError
from srum_jax.data.image_transform import to_rgb, with_pixels
from srum_jax.errors import BadInput
from srum_jax.inference.opened import SmallFiles
from srum_jax.inference.random_keys import MAX_SEED
from srum_jax.inference.requests import ImageRequest, Picture, Question, RequestError

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # JSON can spell them; no tokenizer can read them


def check_seed(seed: int) -> None:
    """Refuses what is no seed."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
        raise RequestError(f"seed: expected an integer from 0 to {MAX_SEED}, found {seed!r}.")


def requested_size(request: ImageRequest, default: tuple[int, int], multiple: int) -> tuple[int, int]:
    """Height and width in pixels, the default where the request names none; both multiples of `multiple`."""
    size = (request.height, request.width)
    if (size[0] is None) != (size[1] is None):
        raise RequestError(f"height, width: expected both or neither, found {size[0]} and {size[1]}.")
    size = default if size[0] is None else size
    for name, side in zip(("height", "width"), size, strict=True):
        if not isinstance(side, numbers.Integral) or side < multiple or side % multiple:
            raise RequestError(f"{name}: expected a positive multiple of {multiple} pixels, found {side!r}.")
    return size


def as_image(picture: Picture) -> Image.Image:
    """A picture whose pixels are known to be readable, upright and in its own mode."""
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
            raise RequestError(
                f"image: expected uint8 pixels [height, width, 3], found {picture.dtype} {picture.shape}.")
        return Image.fromarray(picture)
    if not isinstance(picture, Image.Image):
        raise RequestError(f"image: expected a PIL image or an array of pixels, found {type(picture).__name__}.")
    if 0 in picture.size:
        raise RequestError(f"image: expected at least one pixel, found {picture.width} x {picture.height}.")
    try:
        return with_pixels(picture)
    except ImageError as error:
        raise RequestError(f"image: {error}.") from error


def check_aspect(image: Image.Image, most: int) -> None:
    """Refuses strips of which nothing is left to see after the resize; `most` is the ratio of the sides."""
    if max(image.size) > most * min(image.size):
        raise RequestError(f"image: expected sides of a ratio of at most {most}, found {image.width} x "
                           f"{image.height} pixels; crop it.")


class PromptReader:
    """Prompts to token ids, without markers.

    Attributes:
      special: names of the control tokens by their ids.
    """

    def __init__(self, files: SmallFiles, special_tokens: Iterable[int], vocab_size: int, most: int):
        """Remembers what prompts are checked against.

        Args:
          files: of the checkpoint.
          special_tokens: control tokens that a prompt must not hold, unless they are to act as such.
          vocab_size: of the model.
          most: tokens of a prompt that the model has room for; `files.max_prompt_tokens` may be less.
        """
        self._tokenizer, self._control_tokens = files.tokenizer, files.control_tokens
        self.special = {token: files.tokenizer.decode([token]) for token in special_tokens}
        self._vocab_size, self._most = vocab_size, min(files.max_prompt_tokens, most)

    def encode(self, text: str, *, control_tokens: bool = False) -> list[int]:
        """Token ids of a text; names of control tokens act as such where that was allowed, or where it is ours."""
        return self._tokenizer.encode(text, control_tokens=control_tokens or self._control_tokens)

    def __call__(self, prompt: str) -> list[int]:
        """Token ids of a prompt that the model can be given."""
        if not isinstance(prompt, str) or not prompt.strip():
            raise RequestError(f"prompt: expected a text, found {prompt!r}.")
        if _LONE_SURROGATE.search(prompt):
            raise RequestError(f"prompt: expected text that UTF-8 can write, found a lone surrogate: {prompt!r}.")
        tokens = self.encode(prompt)
        self.check_range(tokens, "a prompt")
        found = self.special.keys() & tokens
        if found and not self._control_tokens:
            raise RequestError(f"prompt: expected text alone, found the control token {self.special[found.pop()]!r}, "
                               "which this tokenizer cannot read as text; leave it out, or allow control tokens.")
        if not tokens or len(tokens) > self._most:
            raise RequestError(f"prompt: expected 1 to {self._most} tokens, found {len(tokens)}; shorten it, or raise "
                               "max_prompt_tokens.")
        return tokens

    def check_range(self, tokens: list[int], where: str) -> None:
        """Raises BadInput where the model has no embedding for a token."""
        if tokens and max(tokens) >= self._vocab_size:
            raise BadInput(f"tokenizer.json: {where} has token {max(tokens)} "
                           f"({self._tokenizer.decode([max(tokens)])!r}), the model {self._vocab_size} embeddings; the "
                           "tokenizer belongs to another model. Copy it from the checkpoint's own source.")


class ModelReader(abc.ABC):
    """Reads requests for one model: a `Checker` but for what each family wants."""

    part: ClassVar[str]  # the vision tower, in configuration and model
    tower: ClassVar[str]  # what a checkpoint has of it, for messages
    most_aspect: ClassVar[int] = 200  # ratio of a picture's sides

    def __init__(self, files: SmallFiles, most: int):
        """Remembers what requests are checked against.

        Args:
          files: of the checkpoint.
          most: see `PromptReader`.
        """
        self._config, self._tokens, self._sees = files.config, files.config.special_tokens, files.has(self.part)
        self._think = files.templates.think_understanding
        self._prompt = PromptReader(files, dataclasses.astuple(self._tokens), self._config.llm.vocab_size, most)

    @property
    @abc.abstractmethod
    def default_size(self) -> tuple[int, int]:
        """See `Checker`."""

    def check(self, request: ImageRequest | Question) -> None:
        """See `Checker`."""
        if isinstance(request, ImageRequest):
            self.image(request)
        else:
            self.question(request)

    @abc.abstractmethod
    def image(self, request: ImageRequest) -> Any:
        """A request for a picture, as the model is given it.

        Raises:
          RequestError: naming the field, what was expected and what was found.
        """

    @abc.abstractmethod
    def question(self, question: Question) -> Any:
        """A question, as the model is given it; raises as `image`."""

    def _asked(self, question: Question, place: int | None = None) -> list[int]:
        """Token ids of a question's text; `place` is the token that stands for a picture, which it must not hold."""
        check_seed(question.seed)
        tokens = self._prompt(question.prompt)
        if place in tokens:  # where control tokens act as such
            raise RequestError(f"prompt: expected text, found {self._prompt.special[place]}, which stands for a "
                               "picture; give pictures as such.")
        if not isinstance(question.images, (tuple, list)):
            raise RequestError(f"image: expected a tuple of images, found {type(question.images).__name__}.")
        if question.images:
            self._must_see()
        return tokens

    def _must_see(self) -> None:
        if not self._sees:
            raise RequestError(f"image: expected a model with its vision tower ({self.tower}), found none in this "
                               "checkpoint or it was not loaded; use a checkpoint that understands images.")

    def _refuse_edit(self, request: ImageRequest) -> None:
        if request.image is not None:
            raise RequestError("image: expected a prompt alone, found a picture too; this model makes no edits.")

    def _rgb(self, picture: Picture) -> Image.Image:
        image = as_image(picture)
        check_aspect(image, self.most_aspect)
        return to_rgb(image)
