"""The tokenizer that travels with a checkpoint: its `tokenizer.json`, as the library `tokenizers` reads it.

transformers would give the same ids, but imports PyTorch where it is installed: seconds of every start.
"""

import json
import threading
from collections.abc import Sequence
from typing import Any

import tokenizers
from etils import epath

from srum_jax.errors import BadInput
from srum_jax.storage import object_store
from srum_jax.storage.reading import why_absent

FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"


class Tokenizer:
    """Between texts and token ids. It adds no markers of its own, and can be pickled."""

    def __init__(self, backend: tokenizers.Tokenizer):
        """Wraps a tokenizer of the library `tokenizers`; what it says of truncation and padding is dropped."""
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self._lock = threading.Lock()

    def __getstate__(self) -> tokenizers.Tokenizer:
        return self._backend

    def __setstate__(self, backend: tokenizers.Tokenizer) -> None:
        self._backend, self._lock = backend, threading.Lock()

    def encode(self, text: str, *, control_tokens: bool = False) -> list[int]:
        """Token ids of a text.

        Args:
          text: any.
          control_tokens: whether names of control tokens in it become these tokens; else they are text like any other.
        """
        with self._lock:  # the library has the choice in the tokenizer, not in the call
            self._backend.encode_special_tokens = not control_tokens
            return self._backend.encode(text, add_special_tokens=False).ids

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of token ids, control tokens by their names."""
        return self._backend.decode(list(token_ids), skip_special_tokens=False)


def load_tokenizer(checkpoint: epath.PathLike) -> Tokenizer:
    """Loads the tokenizer beside the weights; nothing is downloaded and no code of the checkpoint is run.

    Args:
      checkpoint: a directory, or a file of weights in it.

    Raises:
      BadInput: the file is absent or unusable.
      OSError: it cannot be read.
    """
    directory = epath.Path(checkpoint)
    directory = directory if directory.is_dir() else directory.parent
    path = directory / FILE
    if not object_store.exists(path):
        raise BadInput(f"{path}: {why_absent(path)}; copy it from the published checkpoint, or make it of "
                             "vocab.json and merges.txt by transformers: "
                             "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR).")
    try:
        backend = tokenizers.Tokenizer.from_str(object_store.read_bytes(path).decode())
    except OSError:
        raise
    except Exception as error:  # the library has no class of its own for it
        raise BadInput(f"{path}: expected a tokenizer that the library tokenizers {tokenizers.__version__} can "
                             f"read, found: {error}. Copy it again from the published checkpoint, or install a newer "
                             "version of tokenizers.") from error
    _add_missing(backend, directory / CONFIG_FILE)
    return Tokenizer(backend)


def _add_missing(backend: tokenizers.Tokenizer, path: epath.Path) -> None:
    """Adds the tokens that stand in `tokenizer_config.json` alone, as transformers does.

    Raises:
      BadInput: they do not get the ids that stand there.
    """
    if not object_store.exists(path):
        return
    try:
        config = json.loads(object_store.read_bytes(path))
        listed: dict[str, dict[str, Any]] = config.get("added_tokens_decoder", {})
        added = {int(number): tokenizers.AddedToken(**token) for number, token in listed.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise BadInput(f"{path}: expected a JSON object, with the added tokens by id in added_tokens_decoder; "
                             f"found: {error}. Copy it again from the published checkpoint.") from error
    known = backend.get_added_tokens_decoder()
    for number, token in sorted(added.items()):
        if number not in known:
            backend.add_tokens([token])
            found = backend.token_to_id(token.content)
            if found != number:
                raise BadInput(f"{path}: added_tokens_decoder: expected {token.content!r} as number {number}, "
                                     f"found {found}: {FILE} is that of another tokenizer.")
