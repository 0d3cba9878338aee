"""Requests checked, and turned into token ids and patches of pictures."""

import dataclasses
from typing import ClassVar

import numpy as np
from etils import epath

from srum_jax.errors import BadInput
from srum_jax.inference.opened import SmallFiles
from srum_jax.inference.request_checks import ModelReader, check_seed, requested_size
from srum_jax.inference.requests import ImageRequest, Picture, Question, RequestError
from srum_jax.models.blip3o.config import DECODER_DIRECTORY, Blip3oConfig, SpecialTokens
from srum_jax.models.blip3o.patches import flat_patches, smart_resize
from srum_jax.models.blip3o.pixel_config import PixelDecoderConfig
from srum_jax.models.blip3o.prompts import (
    NEGATIVE,
    SYSTEM,
    AssistantTurn,
    generation_prompt,
    understanding_prompt,
)
from srum_jax.weights.tokenizer import Tokenizer

# Ids follow from config.json by rules that only the tokenizer can confirm.
_NAMES = {
    "pad": "<|endoftext|>", "turn_start": "<|im_start|>", "turn_end": "<|im_end|>", "vision_start": "<|vision_start|>",
    "vision_end": "<|vision_end|>", "image_pad": "<|image_pad|>", "image_start": "[IMG]", "image_query": "<image>",
}


@dataclasses.dataclass(frozen=True)
class ReadImageRequest:
    """A picture to be drawn, as the model is given it."""

    caption: str
    seed: int
    size: tuple[int, int]  # height and width in pixels


@dataclasses.dataclass(frozen=True)
class ReadPicture:
    """A picture to be read."""

    patches: np.ndarray  # float32 [P, values], those of a token side by side
    grid: tuple[int, int]  # rows and columns of patches


@dataclasses.dataclass(frozen=True)
class ReadQuestion:
    """A question, as the model is given it."""

    prompt: str
    seed: int
    pictures: tuple[ReadPicture, ...]


class RequestReader(ModelReader):
    """Reads requests for one model."""

    part: ClassVar[str] = "vision"
    tower: ClassVar[str] = "visual.* tensors"
    most_aspect: ClassVar[int] = 200  # beyond it, Qwen2.5-VL's own preprocessing refuses a picture

    def __init__(self, files: SmallFiles):
        """See `ModelReader`; BadInput: the tokenizer is that of another model."""
        super().__init__(files, files.config.llm.max_position_embeddings)
        self._decoder = epath.Path(files.directory) / DECODER_DIRECTORY
        check_control_tokens(files.tokenizer, self._tokens)
        for turn in ("open", "closed"):
            self._prompt.check_range(self.drawing("", turn), "the template around a caption")
        self._prompt.check_range(self.asking("", (), think=True), "an instruction of think mode")

    @property
    def default_size(self) -> tuple[int, int]:
        """See `Checker`."""
        return (self._pixels.side, self._pixels.side)

    @property
    def _pixels(self) -> PixelDecoderConfig:
        if self._config.pixels is None:
            raise BadInput(f"{self._decoder}: expected the folder of the pixel decoder, found none, and without it no "
                           "picture can be drawn; copy it from the published checkpoint.")
        return self._config.pixels

    def image(self, request: ImageRequest) -> ReadImageRequest:
        """See `ModelReader`; BadInput: the checkpoint has no pixel decoder."""
        check_seed(request.seed)
        self._prompt(request.prompt)
        room = self._config.max_prompt_tokens - self._config.num_queries - 1
        found = len(self.drawing(request.prompt, "closed"))  # the longer one, which is trained on
        if found > room:
            raise RequestError(f"prompt: expected at most {room} tokens, the template around it included "
                               f"(tokenizer_model_max_length less [IMG] and the queries), found {found}; shorten it.")
        self._refuse_edit(request)
        size = requested_size(request, self.default_size, self._pixels.size_multiple)
        for name, side in zip(("height", "width"), size, strict=True):
            if side > self._pixels.side:
                raise RequestError(f"{name}: expected at most {self._pixels.side} pixels, for which the pixel decoder "
                                   f"was made, found {side}.")
        return ReadImageRequest(request.prompt, request.seed, size)

    def question(self, question: Question) -> ReadQuestion:
        """See `ModelReader`."""
        self._asked(question, self._tokens.image_pad)
        read = ReadQuestion(question.prompt, question.seed, tuple(map(self._picture, question.images)))
        found, room = len(self.asking(read.prompt, read.pictures)), self._config.llm.max_position_embeddings
        if found > room:
            raise RequestError(f"image: expected at most {room} tokens of pictures and text, found {found}; give fewer "
                               "pictures, or smaller ones.")
        return read

    def drawing(self, caption: str, turn: AssistantTurn) -> list[int]:
        """Token ids that ask for a picture, up to and without [IMG]."""
        return generation_prompt(caption, self._prompt.encode, self._tokens, turn)

    def negative(self) -> list[int]:
        """Token ids of what the pixel decoder is guided away from, without [IMG]."""
        return list(self._prompt.encode(NEGATIVE))

    def asking(self, prompt: str, pictures: tuple[ReadPicture, ...], *, think: bool = False) -> list[int]:
        """Token ids of a question behind its pictures, up to where the answer begins."""
        group = self._config.vision.merge_size**2
        return understanding_prompt(prompt, [len(picture.patches) // group for picture in pictures],
                                    self._prompt.encode, self._tokens, self._think if think else SYSTEM)

    def _picture(self, picture: Picture) -> ReadPicture:
        return ReadPicture(*flat_patches(self._rgb(picture), self._config.vision))


def box_frame(config: Blip3oConfig, height: int, width: int) -> tuple[int, int]:
    """See `Family`: Qwen2.5-VL names boxes in pixels of the resized picture."""
    return smart_resize(height, width, config.vision.token_pixels)


def check_control_tokens(tokenizer: Tokenizer, tokens: SpecialTokens) -> None:
    """Compares ids that follow from `config.json` with the tokenizer.

    Raises:
      BadInput: it calls one of them otherwise.
    """
    for field, name in _NAMES.items():
        expected, found = getattr(tokens, field), tokenizer.encode(name, control_tokens=True)
        if found != [expected]:
            raise BadInput(f"tokenizer.json: expected {name} as token {expected} (config.json), found {found}; the "
                           "tokenizer belongs to another model. Copy it from the checkpoint's own source.")
