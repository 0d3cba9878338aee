"""The tokenizer that travels with a checkpoint."""

import contextlib
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from etils import epath

from srum_jax.errors import BadInput
from srum_jax.weights.byte_source import is_local

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_NO_LIMIT = 10**30
_FILES = ("tokenizer_config.json", "tokenizer.json", "vocab.json")
_KINDS = (".json", ".txt", ".jinja", ".model")  # of files that a tokenizer may consist of; none of them is large


class TokenizerError(BadInput):
    """A checkpoint has no tokenizer that can be used."""


def load_tokenizer(checkpoint: epath.PathLike) -> "PreTrainedTokenizerBase":
    """Loads the tokenizer files beside the weights; nothing is downloaded and no code of the checkpoint is run.

    Raises:
      TokenizerError: the files are absent or unusable.
    """
    directory = epath.Path(checkpoint)
    directory = directory if directory.is_dir() else directory.parent
    if not any((directory / name).exists() for name in _FILES):
        raise TokenizerError(f"{directory}: expected tokenizer files ({', '.join(_FILES)}), found none; copy them "
                             "from the published checkpoint.")
    # Where PyTorch is installed, transformers imports it; only those who load a tokenizer shall wait for that.
    from transformers import AutoTokenizer
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # it would warn that it knows no model of type "bagel"; only a tokenizer is wanted
    try:
        with _on_disk(directory) as local:
            tokenizer = AutoTokenizer.from_pretrained(str(local), local_files_only=True, trust_remote_code=False)
    except (ValueError, OSError, KeyError) as error:
        raise TokenizerError(f"{directory}: the tokenizer cannot be loaded ({error}).") from error
    finally:
        logging.set_verbosity(verbosity)
    tokenizer.model_max_length = _NO_LIMIT  # too long a text is refused where its length matters, not warned of here
    return tokenizer


@contextlib.contextmanager
def _on_disk(directory: epath.Path) -> Iterator[epath.Path]:
    """The directory; of one in a bucket, which transformers cannot read, a copy of the small files."""
    if is_local(directory):
        yield directory
        return
    with tempfile.TemporaryDirectory() as folder:
        for path in directory.iterdir():
            if path.suffix in _KINDS:
                (epath.Path(folder) / path.name).write_bytes(path.read_bytes())
        yield epath.Path(folder)
