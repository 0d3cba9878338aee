"""Ids of the control tokens, which differ between the released models: they are looked up by name."""

import dataclasses
import json
from collections.abc import Mapping

from etils import epath

from srum_jax.models.config_fields import ConfigError, read_json
from srum_jax.storage.reading import read_text

_TOKENIZER, _STATED = "tokenizer.json", "tokens.json"
NAMES = {"bos": "<｜begin▁of▁sentence｜>", "eos": "<｜end▁of▁sentence｜>", "pad": "<｜▁pad▁｜>",
         "image_start": "<begin_of_image>", "image_end": "<end_of_image>", "image": "<image_placeholder>"}


@dataclasses.dataclass(frozen=True)
class SpecialTokens:
    """Ids of control tokens. Defaults: the tokenizer of 1B."""

    bos: int = 100000
    eos: int = 100001
    pad: int = 100002
    image_start: int = 100003
    image_end: int = 100580
    image: int = 100581  # place of one token of a picture to be read


def read_tokens(directory: epath.Path) -> SpecialTokens | None:
    """The ids that a checkpoint's `tokenizer.json` gives the names, or that `tokens.json` states; None without either.

    Raises:
      ConfigError: a file is no JSON, or lacks a token.
    """
    if (directory / _TOKENIZER).exists():
        path = directory / _TOKENIZER
        try:
            content = json.loads(read_text(path))
            known = {**content["model"].get("vocab", {}),
                     **{token["content"]: token["id"] for token in content.get("added_tokens", ())}}
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{path}: not a tokenizer ({type(error).__name__}: {error}); copy it again from the "
                              "published checkpoint.") from error
        return _of(known, NAMES, path)
    path = directory / _STATED
    if not path.exists():
        return None
    values = read_json(path)
    ids = values.get("ids") if isinstance(values, dict) else None
    names = {"bos": "bos", "eos": "eos", "pad": "pad", "image_start": "boi", "image_end": "eoi", "image": "image"}
    return _of(ids if isinstance(ids, dict) else {}, names, path)


def _of(known: Mapping[str, int], names: Mapping[str, str], path: epath.Path) -> SpecialTokens:
    for name in names.values():
        if not isinstance(known.get(name), int):
            raise ConfigError(f"{path}: token {name!r}: expected its id, found none; this is the tokenizer of another "
                              "model.")
    return SpecialTokens(**{field: known[name] for field, name in names.items()})
