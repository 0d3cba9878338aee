"""What requests to any model have in common, checked before anything is computed. All raise RequestError."""

import numbers
import re
from collections.abc import Iterable

import numpy as np
from PIL import Image

from srum_jax.data.errors import ImageError
from srum_jax.data.image_transform import with_pixels
from srum_jax.errors import BadInput
from srum_jax.inference.opened import SmallFiles
from srum_jax.inference.random_keys import MAX_SEED
from srum_jax.inference.requests import ImageRequest, Picture, RequestError

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
    """Prompts to token ids, without markers."""

    def __init__(self, files: SmallFiles, special_tokens: Iterable[int], vocab_size: int, most: int):
        """Remembers what prompts are checked against.

        Args:
          files: of the checkpoint.
          special_tokens: control tokens that a prompt must not hold, unless they are to act as such.
          vocab_size: of the model.
          most: tokens of a prompt that the model has room for; `files.max_prompt_tokens` may be less.
        """
        self._tokenizer, self._control_tokens = files.tokenizer, files.control_tokens
        self._special = {token: files.tokenizer.decode([token]) for token in special_tokens}
        self._vocab_size, self._most = vocab_size, min(files.max_prompt_tokens, most)

    def encode(self, text: str) -> list[int]:
        """Token ids of a user's text; names of control tokens act as such only where that was allowed."""
        return self._tokenizer.encode(text, control_tokens=self._control_tokens)

    def __call__(self, prompt: str) -> list[int]:
        """Token ids of a prompt that the model can be given."""
        if not isinstance(prompt, str) or not prompt.strip():
            raise RequestError(f"prompt: expected a text, found {prompt!r}.")
        if _LONE_SURROGATE.search(prompt):
            raise RequestError(f"prompt: expected text that UTF-8 can write, found a lone surrogate: {prompt!r}.")
        tokens = self.encode(prompt)
        self.check_range(tokens, "a prompt")
        found = self._special.keys() & tokens
        if found and not self._control_tokens:
            raise RequestError(f"prompt: expected text alone, found the control token {self._special[found.pop()]!r}, "
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
