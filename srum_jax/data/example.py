"""What a record or a rollout becomes for a family, and what the family makes of it."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

import jax
import numpy as np
from PIL import Image

from srum_jax.data.errors import SchemaError
from srum_jax.data.image_transform import decode_image
from srum_jax.data.stored_code import StoredCode
from srum_jax.rewards.token_grid import Grid

Array = jax.Array | np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """A picture as it is stored or was drawn: as a file or as pixels, and perhaps as a code of it."""

    width: int  # pixels
    height: int
    encoded: bytes | None = None  # a file of an image
    pixels: np.ndarray | None = None  # uint8 [H, W, 3]
    code: StoredCode | None = None

    def image(self) -> Image.Image:
        """RGB.

        Raises:
          ImageError: the file cannot be decoded.
          SchemaError: it has not the size that it should have, or there is nothing but a code.
        """
        if self.pixels is not None:
            return Image.fromarray(self.pixels)
        if self.encoded is None:
            raise SchemaError("image/encoded", "an image", "nothing")
        image = decode_image(self.encoded)
        if image.size != (self.width, self.height):
            raise SchemaError("image/width, image/height", "{} x {}, as decoded".format(*image.size),
                              f"{self.width} x {self.height}")
        return image


@dataclasses.dataclass(frozen=True, eq=False)
class Example:
    """One sample, before a family lays it out as tokens."""

    prompt: str  # drawing: the caption; reading: the question
    picture: Picture
    # Called with the grid that the family gave the picture: float32 [rows, columns] by the name of the column.
    image_columns: Callable[[Grid], Mapping[str, np.ndarray]]
    text_columns: Mapping[str, float] = dataclasses.field(default_factory=dict)  # of each predicted text token
    kind: Literal["drawing", "reading"] = "drawing"  # the picture is learnt, or the answer is
    answer: str | None = None  # reading: what is learnt
    prompt_left_out: bool = False  # drawing: the picture is learnt without its caption (text dropout)


class RandomDraws(Protocol):
    """What is needed of a random generator; `numpy.random.Generator` has it."""

    def random(self) -> float:
        """Uniform in [0, 1)."""

    def standard_normal(self) -> float:
        """Normal, mean 0 and variance 1."""


class Tokenizer(Protocol):
    """What packing needs of a tokenizer. It must survive pickling."""

    def encode(self, text: str, *, control_tokens: bool = False) -> list[int]:
        """Token ids of a text, without special tokens around it; whether names of such tokens in it act as them."""


class Batch(Protocol):
    """A family's own registered dataclass; a tree of arrays with a leading axis of rows."""

    image_columns: dict[str, Array]  # float32 [B, C] each, one value per image token
    text_columns: dict[str, Array]  # float32 [B, T] each, one value per predicted text token


class Row(Protocol):
    """A row while it is filled."""

    def add(self, example: Example, draws: RandomDraws) -> None:
        """Places an example behind those that are in the row.

        Raises:
          CapacityError: it does not fit; the row is left as it was.
          SchemaError, ImageError, RewardMapError: it cannot be used.
        """

    def finish(self) -> Batch:
        """The row as NumPy arrays without a batch axis; what is not filled is padding."""


class Packer(Protocol):
    """Makes rows. It must survive pickling: rows are made in worker processes.

    Attributes:
      samples_per_row: slots of a row.
    """

    samples_per_row: int

    def empty_row(self) -> Row:
        """A new row. Finished as it is, it has the shapes of every other."""

    def check(self, picture: Picture) -> None:
        """Returns unless the picture of a set's first record shows that the whole set was not made for this run.

        Raises:
          SchemaError: what is wrong with its stored code.
        """


def stack_rows(rows: Sequence[Batch]) -> Batch:
    """Finished rows as one batch, along a new leading axis. NumPy only, no device is touched."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)
