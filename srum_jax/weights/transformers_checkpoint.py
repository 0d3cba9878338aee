"""Checkpoints that transformers loads: whole, or refused.

Transformers starts a tensor that it does not find at random, takes defaults for settings that it does not find, ignores
those that it does not know, and at most warns. Whoever judges or segments with such a model gets numbers that mean
nothing.
"""

import contextlib
import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from srum_jax.storage.reading import why_absent
from srum_jax.weights.errors import WeightsError

# What transformers reads beside tensors, and partly passes over in silence where it cannot.
_SMALL_FILES = ("config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json",
                "video_preprocessor_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                "added_tokens.json", "chat_template.json", "model.safetensors.index.json")
# Where the settings of image processors are stored: alone, and within those of the whole processor.
_ALONE, _WITHIN, _GROUP = "preprocessor_config.json", "processor_config.json", "image_processor"
# What is stored beside settings.
_NO_SETTINGS = frozenset({
    "image_processor_type", "feature_extractor_type", "processor_class", "_processor_class", "auto_map",
    "transformers_version", "data_format", "input_data_format", "return_tensors", "device", "disable_grouping",
})
_SHOWN = 5  # names in a message
_NUMBERED = re.compile(r"\.\d+(?=\.)")


def load_config(directory: epath.PathLike) -> Any:
    """Reads what kind of model a checkpoint holds, and its sizes.

    Raises:
      WeightsError: it cannot be read.
    """
    from transformers import AutoConfig

    _check_config(epath.Path(directory))
    with _told(directory, "the configuration"):
        return AutoConfig.from_pretrained(str(directory), local_files_only=True, trust_remote_code=False)


def load_model(kind: Any, directory: epath.PathLike, **options: Any) -> Any:
    """Loads a model from safetensors on this machine; no code of the checkpoint is run.

    Args:
      kind: class of transformers with `from_pretrained`.
      directory: of the checkpoint.
      **options: of `from_pretrained`.

    Raises:
      WeightsError: it cannot be loaded, or lacks tensors of the model, has some of other shapes, or more layers.
    """
    _check_config(epath.Path(directory))
    with _told(directory, "the model"):
        model, loaded = kind.from_pretrained(
            str(directory), local_files_only=True, trust_remote_code=False, use_safetensors=True,
            ignore_mismatched_sizes=True, output_loading_info=True, **options)
    _refuse(directory, "lacks {} of the model's tensors", sorted(loaded["missing_keys"]))
    _refuse(directory, "holds {} tensors of other shapes than the model's",
            [f"{name} {list(stored)} instead of {list(of_model)}"
             for name, stored, of_model in sorted(loaded["mismatched_keys"])])
    blocks = {_NUMBERED.sub(".N", name) for name in model.state_dict()}
    _refuse(directory, "holds {} tensors of blocks that config.json says the model has not",
            [name for name in sorted(loaded["unexpected_keys"]) if _NUMBERED.sub(".N", name) in blocks])
    return model


def load_processor(kind: Any, directory: epath.PathLike) -> Any:
    """Loads a processor of images, or of images and text.

    Args:
      kind: class of transformers with `from_pretrained`.
      directory: of the checkpoint.

    Raises:
      WeightsError: it cannot be loaded, the settings for images are absent, or some of them would not be read.
    """
    _check_config(epath.Path(directory))
    stored = _stored_settings(epath.Path(directory))
    with _told(directory, "the processor"):
        processor = kind.from_pretrained(str(directory), local_files_only=True, trust_remote_code=False)
    images = getattr(processor, _GROUP, processor)
    if not hasattr(images, "valid_kwargs"):
        raise WeightsError(f"{directory}: expected a processor of images, found {type(images).__name__}.")
    _refuse(directory, f"{{}} settings for images are unknown to {type(images).__name__}, and would be ignored",
            [f"{name}={stored[name]!r}" for name in stored if not _reads(name, processor, images)])
    return processor


def load_picture_processor(directory: epath.PathLike) -> Any:
    """Loads the processor of a model that reads pictures and text.

    Of models that read films too (Qwen2.5-VL), transformers loads the part for films with it, which cannot do without
    torchvision; where that is absent, it is left out.

    Args:
      directory: of the checkpoint.

    Raises:
      WeightsError: as for `load_processor`.
    """
    import transformers
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES
    from transformers.utils import is_torchvision_available

    kind: Any = transformers.AutoProcessor
    settings = _check_config(epath.Path(directory))
    if not is_torchvision_available():
        named = getattr(transformers, PROCESSOR_MAPPING_NAMES.get(settings.get("model_type"), ""), None)
        if named is not None and any("video" in part for part in named.get_attributes()):
            kind = type(named.__name__, (named,), {"get_attributes": classmethod(
                lambda cls: [part for part in named.get_attributes() if "video" not in part])})
    return load_processor(kind, directory)


def _check_config(directory: epath.Path) -> dict[str, Any]:
    """The configuration, if all small files can be read."""
    settings, *_ = [_read_object(directory / name) for name in _SMALL_FILES]
    if settings is None:
        raise WeightsError(f"{directory}: expected a checkpoint of transformers, found no such directory."
                           if not directory.exists() else
                           f"{directory / 'config.json'}: {why_absent(directory / 'config.json')}; a checkpoint of "
                           "transformers has one.")
    return settings


def _stored_settings(directory: epath.Path) -> dict[str, Any]:
    """The settings for images that transformers will read."""
    alone, whole = (_read_object(directory / name) for name in (_ALONE, _WITHIN))
    within = None if whole is None else whole.get(_GROUP)
    if alone is None and not isinstance(within, Mapping):
        raise WeightsError(f"{directory}: expected the settings for images in {_ALONE}, or as {_GROUP!r} in {_WITHIN}, "
                           "found none; copy the whole checkpoint.")
    if not isinstance(within, Mapping):
        return alone
    if alone:
        _refuse(directory, f"{{}} settings differ between {_ALONE}, which is not read, and {_WITHIN}",
                [f"{name}: {value!r} and {within[name]!r}" for name, value in alone.items()
                 if name not in _NO_SETTINGS and name in within and within[name] != value])
    return dict(within)


def _read_object(path: epath.Path) -> dict[str, Any] | None:
    if not path.exists():
        if why_absent(path) != "no such file":  # a cache whose files were removed
            raise WeightsError(f"{path}: {why_absent(path)}; copy the whole checkpoint.")
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"{path}: not valid JSON ({error}); copy it again.") from error
    if not isinstance(found, dict):
        raise WeightsError(f"{path}: expected a JSON object, found {type(found).__name__}; copy it again.")
    return found


def _reads(name: str, processor: Any, images: Any) -> bool:
    """Whether a setting means something to the loaded classes: a parameter of theirs, or an attribute that they use."""
    if name in _NO_SETTINGS or name in images.valid_kwargs.__annotations__:
        return True
    used = re.compile(rf"[.'\"]{re.escape(name)}\b")  # as an attribute, or by its name
    kinds = {*type(processor).__mro__, *type(images).__mro__}
    return any(used.search(inspect.getsource(kind)) for kind in kinds
               if kind.__module__.startswith("transformers.models."))


@contextlib.contextmanager
def _told(directory: epath.PathLike, what: str) -> Iterator[None]:
    """Turns what transformers raises into one error, and keeps its reports to itself."""
    from transformers.utils import logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    try:
        yield
    except Exception as error:  # a library that reads a user's files, in many layers: it raises whatever happens there
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(f"{directory}: {what} cannot be loaded by transformers ({reason}).") from error
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


def _refuse(directory: epath.PathLike, what: str, names: Sequence[str]) -> None:
    if names:
        some = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
        raise WeightsError(f"{directory}: {what.format(len(names))} ({some}); it is incomplete, or belongs to another "
                           "model or version: copy it again.")
