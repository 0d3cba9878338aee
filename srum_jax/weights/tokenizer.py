"""The tokenizer that travels with a checkpoint."""

from typing import TYPE_CHECKING

from etils import epath

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_NO_LIMIT = 10**30
_FILES = ("tokenizer_config.json", "tokenizer.json", "vocab.json")


class TokenizerError(ValueError):
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
        tokenizer = AutoTokenizer.from_pretrained(str(directory), local_files_only=True, trust_remote_code=False)
    except (ValueError, OSError, KeyError) as error:
        raise TokenizerError(f"{directory}: the tokenizer cannot be loaded ({error}).") from error
    finally:
        logging.set_verbosity(verbosity)
    tokenizer.model_max_length = _NO_LIMIT  # too long a text is refused where its length matters, not warned of here
    return tokenizer
