"""What is needed of a tokenizer; those of Hugging Face have it."""

from collections.abc import Sequence
from typing import Protocol


class Tokenizer(Protocol):
    """Between texts and token ids. It adds no markers of its own."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a text."""

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of token ids."""
