"""What rounds draw outputs for: prompts and pictures, in an order that is a function of the seed alone."""

import dataclasses
import hashlib

import numpy as np
from etils import epath

from srum_jax.data.errors import ImageError
from srum_jax.data.image_transform import decode_image, to_rgb
from srum_jax.errors import BadInput
from srum_jax.generation.prompt_file import read_prompt_file
from srum_jax.generation.prompt_formats import AUTO, find_format
from srum_jax.rollouts.config import GENERATION, UNDERSTANDING, RolloutConfig
from srum_jax.storage.atomic_file import file_sha256
from srum_jax.storage.reading import is_hidden

_ENDS = (".png", ".jpg", ".jpeg", ".webp")


@dataclasses.dataclass(frozen=True)
class Inputs:
    """All of a run."""

    prompts: tuple[str, ...]
    pictures: tuple[epath.Path, ...]

    @classmethod
    def read(cls, config: RolloutConfig) -> "Inputs":
        """Finds them; pictures are decoded when they are used.

        Raises:
          BadInput: there are none for a direction that is trained.
        """
        prompts, pictures = (), ()
        if config.draws(GENERATION):
            if not config.prompts:
                raise BadInput("rollouts.prompts: expected a file of prompts, found nothing; set it, or "
                               "rollouts.directions=understanding.")
            try:
                found = read_prompt_file(config.prompts, find_format(AUTO, None), "rollouts")
            except BadInput as error:
                raise BadInput(f"rollouts.prompts: {error}") from error
            if found.bad:
                raise BadInput(f"rollouts.prompts: {config.prompts}, line {found.bad[0].line}: {found.bad[0].detail}.")
            prompts = tuple(prompt.prompt for prompt in found.rows)
        if config.draws(UNDERSTANDING):
            pictures = _pictures(config)
        return cls(prompts, pictures)

    def pixels(self, number: int) -> np.ndarray:
        """Of a picture, uint8 [H, W, 3].

        Raises:
          BadInput: it cannot be decoded.
        """
        path = self.pictures[number]
        try:
            return np.asarray(to_rgb(decode_image(path.read_bytes())))
        except (ImageError, OSError) as error:
            raise BadInput(f"rollouts.pictures: {path}: {error}; take it out of the folder.") from error


def inputs_sha256(config: RolloutConfig) -> dict[str, str | None]:
    """What a run reads, wherever it lies."""
    digest = hashlib.sha256()
    if config.draws(UNDERSTANDING):
        for path in _pictures(config):
            digest.update(f"{path.name}\n{file_sha256(path)}\n".encode())
    return {"prompts": file_sha256(epath.Path(config.prompts)) if config.draws(GENERATION) else None,
            "pictures": digest.hexdigest() if config.draws(UNDERSTANDING) else None}


def numbers_of_round(count: int, per_round: int, number: int, seed: int) -> list[int]:
    """Which of `count` inputs round `number` takes: the next ones of a sequence that is shuffled anew in every pass.

    Args:
      count: of all inputs.
      per_round: how many are taken.
      number: of the round, from 0.
      seed: of the order.
    """
    places = range(number * per_round, (number + 1) * per_round)
    orders = {epoch: np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(count)
              for epoch in {place // count for place in places}}
    return [int(orders[place // count][place % count]) for place in places]


def stable_seed(*parts: object) -> int:
    """A seed for what these name, below 2^63: SHA-256 of their text, alike on every machine."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _pictures(config: RolloutConfig) -> tuple[epath.Path, ...]:
    folder = epath.Path(config.pictures) if config.pictures else None
    if folder is None or not folder.is_dir():
        raise BadInput(f"rollouts.pictures: expected a folder of pictures, found {config.pictures or 'nothing'}; set "
                       "it, or rollouts.directions=generation.")
    found = sorted(path for path in folder.iterdir() if path.name.lower().endswith(_ENDS) and not is_hidden(path.name))
    if not found:
        raise BadInput(f"rollouts.pictures: {folder}: expected pictures ({', '.join(_ENDS)}), found none.")
    return tuple(found)
