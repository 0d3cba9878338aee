"""What packers of all families have in common: texts and stored codes that were checked against the model."""

import abc
import dataclasses
from typing import Any, ClassVar

import numpy as np

from srum_jax.data.config import Rows
from srum_jax.data.errors import CapacityError, SchemaError
from srum_jax.data.example import Picture, Tokenizer
from srum_jax.objectives.columns import ColumnNames


class ModelPacker(abc.ABC):
    """A `Packer` but for `empty_row`; see `data.example.Packer`.

    Args:
      rows: slots and capacities.
      model: whose tokens they are.
      tokenizer: of its prompts; None for rows that stay empty.
      columns: that the objective wants.
      encoder_sha256: checksum of the part of the model that stored codes must come from; None where it is not known,
        and not compared.

    Raises:
      ValueError: sizes that do not go with the model.
    """

    encoder: ClassVar[str]  # what makes stored codes, for messages
    otherwise: ClassVar[str] = "leave the record out"  # what helps against a control token in a text

    def __init__(self, rows: Rows, model: Any, tokenizer: Tokenizer | None, columns: ColumnNames,
                 encoder_sha256: bytes | None = None):
        self.rows, self.model, self.tokenizer, self.columns = rows, model, tokenizer, columns
        self.encoder_sha256 = encoder_sha256
        self.samples_per_row = rows.samples_per_row

    @abc.abstractmethod
    def expected_code(self, picture: Picture) -> dict[str, Any]:
        """What the fields of a picture's `StoredCode` must be, by the model and the rows."""

    def check(self, picture: Picture) -> None:
        """See `Packer.check`."""
        if self.rows.stored_codes:
            self.stored(picture)

    def stored(self, picture: Picture) -> np.ndarray:
        """The values of a picture's stored code; not to be written to.

        Raises:
          SchemaError: there is none, or that of another kind, size, canvas or encoder.
        """
        code, field = picture.code, self.rows.code_field
        again = ("make them with python -m tools.precompute_latents and the checkpoint and rows of this run, or set "
                 f"rows.{field}=images")
        if code is None:
            raise SchemaError("code/values", f"stored {field} ({again})", "nothing")
        for name, value in self.expected_code(picture).items():
            found = getattr(code, name)
            if found != value:
                raise SchemaError(f"code/{name}", f"{value}, by the settings of this run ({again})", str(found))
        if self.encoder_sha256 is not None and code.encoder_sha256 != self.encoder_sha256:
            raise SchemaError("code/encoder_sha256",
                              f"{self.encoder_sha256.hex()}, {self.encoder} of model.checkpoint ({again}; weights that "
                              "were rounded to another precision are other weights)", code.encoder_sha256.hex())
        return code.array

    def encode(self, text: str, *, control_tokens: bool = False) -> list[int]:
        """Tokens of a text, of which none acts as a control token unless that is asked for.

        Raises:
          CapacityError: the tokenizer is another model's, or cannot read the name of a control token as text.
        """
        ids = self.tokenizer.encode(text, control_tokens=control_tokens)
        if ids and not 0 <= min(ids) <= max(ids) < self.model.llm.vocab_size:
            raise CapacityError(f"its text has token id {max(ids)}, the model {self.model.llm.vocab_size} "
                                "embeddings; the tokenizer belongs to another model")
        special = set(dataclasses.astuple(self.model.special_tokens)) & set(ids)
        if special and not control_tokens:
            raise CapacityError(f"its text has the control token {min(special)}, which this tokenizer cannot read as "
                                f"text; {self.otherwise}")
        return ids
