"""Requests checked, and turned into token ids and views of pictures."""

import dataclasses

import numpy as np

from srum_jax.data.image_transform import to_rgb
from srum_jax.inference.opened import SmallFiles
from srum_jax.inference.request_checks import PromptReader, as_image, check_aspect, check_seed, requested_size
from srum_jax.inference.requests import ImageRequest, Picture, Question, RequestError
from srum_jax.models.janus_pro.config import JanusConfig
from srum_jax.models.janus_pro.pictures import view_to_read
from srum_jax.models.janus_pro.prompts import SYSTEM, answer_ids, generation_prompt, understanding_prompt

_MAX_ASPECT = 200  # beyond it, less than a row of pixels is left after the resize


@dataclasses.dataclass(frozen=True)
class ReadImageRequest:
    """A picture to be drawn, as the model is given it."""

    prompt: list[int]  # token ids, from the first to the one that begins the picture
    seed: int


@dataclasses.dataclass(frozen=True)
class ReadQuestion:
    """A question, as the model is given it."""

    prompt: str
    seed: int
    views: tuple[np.ndarray, ...]  # uint8 [V, V, 3] each


class RequestReader:
    """Reads requests for one model; a `Checker`."""

    def __init__(self, files: SmallFiles, *, sees: bool = True):
        """Remembers what requests are checked against.

        Args:
          files: of the checkpoint.
          sees: whether the model has its vision tower.

        Raises:
          BadInput: the tokenizer is that of another model.
        """
        self._config: JanusConfig = files.config
        self._tokens, self._sees, self._think = self._config.special_tokens, sees, files.templates.think_understanding
        self._tokenizer, self._control_tokens = files.tokenizer, files.control_tokens
        self._room = self._config.llm.max_position_embeddings
        self._prompt = PromptReader(files, dataclasses.astuple(self._tokens), self._config.llm.vocab_size, self._room)
        self._prompt.check_range(generation_prompt("", self._encode, self._tokens), "the template around a caption")
        self._prompt.check_range(self.asking("", 0, think=True), "an instruction of think mode")

    @property
    def default_size(self) -> tuple[int, int]:
        """See `Checker`."""
        return (self._config.vq.image_size,) * 2

    def check(self, request: ImageRequest | Question) -> None:
        """See `Checker`."""
        if isinstance(request, ImageRequest):
            self.image(request)
        else:
            self.question(request)

    def image(self, request: ImageRequest) -> ReadImageRequest:
        """Reads a request for a picture.

        Raises:
          RequestError: naming the field, what was expected and what was found.
        """
        check_seed(request.seed)
        self._prompt(request.prompt)
        if request.image is not None:
            raise RequestError("image: expected a prompt alone, found a picture too; Janus-Pro makes no edits.")
        side = self._config.vq.image_size
        for name, found in zip(("height", "width"), requested_size(request, self.default_size, 1), strict=True):
            if found != side:
                raise RequestError(f"{name}: expected {side} pixels, the only size that the model draws, found "
                                   f"{found}.")
        prompt = generation_prompt(request.prompt, self._encode, self._tokens)
        self._require_room(len(prompt) + self._config.vq.num_codes, "prompt", "shorten it")
        return ReadImageRequest(prompt, request.seed)

    def question(self, question: Question) -> ReadQuestion:
        """Reads a question.

        Raises:
          RequestError: naming the field, what was expected and what was found.
        """
        check_seed(question.seed)
        if self._tokens.image in self._prompt(question.prompt):  # where control tokens act as such
            raise RequestError("prompt: expected text, found the token that stands for a picture; give pictures as "
                               "such.")
        if not isinstance(question.images, (tuple, list)):
            raise RequestError(f"image: expected a tuple of images, found {type(question.images).__name__}.")
        if question.images and not self._sees:
            raise RequestError("image: expected a model with its vision tower (vision_model.* tensors), found one that "
                               "was loaded without it.")
        views = tuple(map(self._view, question.images))
        self._require_room(len(self.asking(question.prompt, len(views))), "image", "give fewer pictures")
        return ReadQuestion(question.prompt, question.seed, views)

    def asking(self, prompt: str, num_pictures: int, *, think: bool = False) -> list[int]:
        """Token ids of a question behind its pictures, up to where the answer begins."""
        return understanding_prompt(prompt, num_pictures, self._config.vision.num_tokens, self._encode, self._tokens,
                                    self._think if think else SYSTEM)

    def answer(self, text: str) -> list[int]:
        """Token ids of an answer, and of the token that ends it."""
        return answer_ids(text, self._encode, self._tokens)

    def _encode(self, text: str, *, control_tokens: bool = False) -> list[int]:
        return self._tokenizer.encode(text, control_tokens=control_tokens or self._control_tokens)

    def _require_room(self, need: int, field: str, advice: str) -> None:
        if need > self._room:
            raise RequestError(f"{field}: expected at most {self._room} tokens of text and pictures, found {need}; "
                               f"{advice}.")

    def _view(self, picture: Picture) -> np.ndarray:
        image = as_image(picture)
        check_aspect(image, _MAX_ASPECT)
        return view_to_read(to_rgb(image), self._config.vision.image_size)
