"""The families that there are, and the signs by which a checkpoint shows which one it belongs to.

Only the family that is asked for is imported.
"""

import dataclasses
import importlib
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from etils import epath

from srum_jax.weights.errors import WeightsError
from srum_jax.weights.run_folder import hint

if TYPE_CHECKING:
    from srum_jax.families.family import Family

# Each with its FAMILY.
_MODULES = {name: f"srum_jax.families.{name}.family" for name in ("bagel", "blip3o", "janus_pro")}
# Of images; in files that import no array library.
_SAMPLERS = {"bagel": ("srum_jax.families.bagel.sampler", "FlowSampler"),
             "blip3o": ("srum_jax.families.blip3o.sampler", "PictureSampler"),
             "janus_pro": ("srum_jax.families.janus_pro.sampler", "CodeSampler")}
NAMES = tuple(_MODULES)


@dataclasses.dataclass(frozen=True)
class _Sign:
    """What shows that a directory holds a certain kind of checkpoint.

    Attributes:
      title: of that kind.
      family: its name; None for what no family can read.
      words: the sign, for messages.
      shown: (directory, fields of its config.json) -> whether it is there.
      beside: what is to be copied to weights that its trainer saves without the small files.
    """

    title: str
    family: str | None
    words: str
    shown: Callable[[epath.Path, Mapping[str, Any]], bool]
    beside: str = ""


def _model_type(name: str) -> str:
    return f'config.json with "model_type": "{name}"'


_BLIP3O, _JANUS, _JANUS_COMMUNITY = "blip3o_qwen", "multi_modality", "janus"
_SIGNS = (
    _Sign("BAGEL", "bagel", "llm_config.json", lambda directory, _: (directory / "llm_config.json").exists(),
          "the JSON and tokenizer files and ae.safetensors of BAGEL-7B-MoT, never its ema.safetensors"),
    _Sign("BLIP3o", "blip3o", f'{_model_type(_BLIP3O)} and "vision_config"',
          lambda _, fields: fields.get("model_type") == _BLIP3O and "vision_config" in fields),
    _Sign("BLIP3o-NEXT", None, f'{_model_type(_BLIP3O)} without "vision_config"',
          lambda _, fields: fields.get("model_type") == _BLIP3O),
    _Sign("Janus-Pro", "janus_pro", _model_type(_JANUS), lambda _, fields: fields.get("model_type") == _JANUS),
    _Sign("Janus-Pro for transformers", "janus_pro", _model_type(_JANUS_COMMUNITY),
          lambda _, fields: fields.get("model_type") == _JANUS_COMMUNITY),
)


def family(name: str) -> "Family":
    """The family of a name.

    Raises:
      WeightsError: there is none of that name.
    """
    if name not in _MODULES:
        raise WeightsError(f"family {name!r}: expected one of {', '.join(NAMES)}.")
    return importlib.import_module(_MODULES[name]).FAMILY


def samplers() -> dict[str, Any]:
    """The published settings of sampling images, by the name of their family. Imports no array library."""
    return {name: getattr(importlib.import_module(module), kind)() for name, (module, kind) in _SAMPLERS.items()}


def family_of(checkpoint: epath.PathLike) -> "Family":
    """The family that a checkpoint belongs to, see `recognise`."""
    return family(recognise(checkpoint))


def recognise(checkpoint: epath.PathLike) -> str:
    """The name of the family that a checkpoint belongs to, by its small files.

    Args:
      checkpoint: a published checkpoint (a directory, or a file of it), or converted weights.

    Raises:
      WeightsError: there is no such checkpoint, it shows no sign of any family, or this version has no such family.
    """
    path = epath.Path(checkpoint)
    if not path.exists():
        raise WeightsError(f"{path}: no such directory; expected a published checkpoint, or converted weights.")
    directory = path if path.is_dir() else path.parent
    fields = _fields(directory / "config.json")
    sign = next((sign for sign in _SIGNS if sign.shown(directory, fields or {})), None)
    if sign is None and fields is None:
        raise WeightsError(f"{directory / 'config.json'}: not a JSON object; copy it again from the published "
                           "checkpoint, it says which family of models this is.")
    if sign is None:
        known = "; ".join(f"{sign.words} ({sign.title})" for sign in _SIGNS if sign.family is not None)
        found = _model_type(fields["model_type"]) if "model_type" in fields else "none of these"
        raise WeightsError(f"{directory}: cannot tell which family of models this is: expected {known}; found {found}. "
                           f"{hint(directory) or _advice(directory)}")
    if sign.family not in _MODULES:
        raise WeightsError(f"{directory}: found {sign.words}, which is {sign.title}; this version reads "
                           f"{', '.join(NAMES)}.")
    return sign.family


def _advice(directory: epath.Path) -> str:
    weights = sorted(path.name for path in directory.iterdir() if path.name.lower().endswith(".safetensors"))
    if not weights:
        return ("Give a directory that holds weights and their small files. Only safetensors and JSON files are read; "
                ".bin and .pt files are never opened.")
    copies = "; ".join(f"to weights of {sign.title}, {sign.beside}" for sign in _SIGNS if sign.beside)
    return (f"The small files are absent that belong to {', '.join(weights[:5])}. Copy them here from the checkpoint "
            f"that training started from ({copies}).")


def _fields(path: epath.Path) -> Mapping[str, Any] | None:
    """The fields of a JSON object; none where the file is absent, None where it is no such object."""
    try:
        content = json.loads(path.read_text())
    except OSError:
        return {}
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
