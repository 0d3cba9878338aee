"""Which comparisons a case folder of BLIP3o calls for."""

from collections.abc import Callable

from etils import epath
from flax import nnx

from srum_jax.errors import BadInput
from srum_jax.models.blip3o.architecture import BLIP3O
from srum_jax.storage.reading import is_hidden
from srum_jax.weights.checkpoint import open_checkpoint
from srum_jax.weights.load import load
from srum_jax.weights.published import PublishedSource
from srum_jax.weights.weight_files import choose_files
from tools.check_parity import (
    blip3o_decoder,
    blip3o_features,
    blip3o_frozen,
    blip3o_language,
    blip3o_rewards,
    blip3o_training,
    blip3o_vision,
)
from tools.check_parity.blip3o_case import Case
from tools.check_parity.result import GroupResult, Unchecked
from tools.check_parity.tensors import read_tensors, reading

# File of recorded tensors, without `golden_` and ending -> what recomputes them.
_CHECKS: dict[str, Callable[[Case], list[GroupResult | Unchecked]]] = {
    "preprocess": blip3o_vision.check_preprocess,
    "vision": blip3o_vision.check_vision,
    "llm_text": blip3o_language.check_text,
    "llm_image": blip3o_language.check_image,
    "eva": blip3o_features.check_eva,
    "train": blip3o_training.check_train,
    "sampling": blip3o_features.check_sampling,
    "srum": blip3o_rewards.check_losses,
    "srum_grads": blip3o_rewards.check_gradients,
    "decoder": blip3o_decoder.check_decoder,
}


def check(directory: epath.PathLike) -> list[GroupResult | Unchecked]:
    """Recomputes whatever the folder holds.

    Args:
      directory: of weights with `golden_*` files and `freeze.json`.

    Raises:
      BadInput: it is no such folder.
    """
    directory = epath.Path(directory)
    if not directory.is_dir():
        raise BadInput(f"{directory}: expected a case folder, found no directory.")
    names = sorted(path.name for path in directory.iterdir() if not is_hidden(path.name))
    files = {name: name.removeprefix("golden_").removesuffix(".safetensors") for name in names
             if name.startswith("golden_") and name.endswith(".safetensors")}
    if not files:
        raise BadInput(f"{directory}: expected golden_*.safetensors beside the weights of a model, found "
                       f"{', '.join(names[:10]) or 'an empty directory'}.")
    checkpoint = open_checkpoint(directory, BLIP3O, _parts(directory))
    tensors = {}
    for file, name in files.items():
        with reading(directory / file):
            tensors[name] = read_tensors(directory / file)
    case = Case(directory, checkpoint.config, nnx.merge(*load(checkpoint)),
                checkpoint.published.plan, tensors)
    results: list[GroupResult | Unchecked] = []
    for file, name in files.items():
        if name in _CHECKS:
            with reading(directory / file):
                results += _CHECKS[name](case)
    if "freeze.json" in names:
        with reading(directory / "freeze.json"):
            results += blip3o_frozen.check(checkpoint)
    for name in names:
        if name != "freeze.json" and files.get(name) not in _CHECKS:
            results.append(Unchecked(name, "describes the case, or is unknown to this command"))
    return results


def _parts(directory: epath.Path) -> set[str]:
    """The optional parts that the model has and the case holds weights of."""
    shapes = BLIP3O.shapes(BLIP3O.read_config(directory), BLIP3O.parts)
    source = PublishedSource(choose_files(directory, BLIP3O, frozenset(BLIP3O.parts)))
    return {part for name in source.tensors if (part := BLIP3O.part_of(name)) is not None
            and any(parameter.startswith(f"{part}.") for parameter in shapes)}
