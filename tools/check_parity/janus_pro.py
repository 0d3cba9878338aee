"""Which comparisons a case folder of Janus-Pro calls for."""

import shutil
import tempfile
from collections.abc import Callable

import numpy as np
from etils import epath
from flax import nnx

from srum_jax.errors import BadInput
from srum_jax.models.janus_pro.architecture import JANUS_PRO
from srum_jax.storage.reading import is_hidden
from srum_jax.weights.checkpoint import Checkpoint, open_checkpoint
from srum_jax.weights.load import load
from tools.check_parity import janus_drawing, janus_reading, janus_training
from tools.check_parity.janus_case import Case
from tools.check_parity.result import GroupResult, Unchecked, compare_exact
from tools.check_parity.tensors import read_tensors, reading

# File of recorded tensors, without `golden_` and ending -> what recomputes them.
_CHECKS: dict[str, Callable[[Case], list[GroupResult | Unchecked]]] = {
    "preprocess": janus_reading.check_preprocess,
    "layout": janus_reading.check_layout,
    "vision": janus_reading.check_vision,
    "understanding": janus_reading.check_understanding,
    "vq": janus_drawing.check_vq,
    "generation": janus_drawing.check_generation,
    "dual": janus_drawing.check_dual,
    "grads": janus_training.check_gradients,
    "adamw": janus_training.check_adamw,
}
_COMMUNITY = "community"
_SIDE_FILES = ("vq_config.json", "tokens.json")  # what the community layout has no fields for


def check(directory: epath.PathLike) -> list[GroupResult | Unchecked]:
    """Recomputes whatever the folder holds.

    Args:
      directory: of weights in the authors' layout with `golden_*` files, perhaps `community` with the same weights in
        the other layout; `templates.json` may lie in it or beside it.

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
    checkpoint = open_checkpoint(directory, JANUS_PRO)
    tensors = {}
    for file, name in files.items():
        with reading(directory / file):
            tensors[name] = read_tensors(directory / file)
    case = Case(directory, checkpoint.config, nnx.merge(*load(checkpoint)), checkpoint.published.plan, tensors)
    results: list[GroupResult | Unchecked] = []
    for file, name in files.items():
        if name in _CHECKS:
            with reading(directory / file):
                results += _CHECKS[name](case)
    if "meta.json" in names:
        with reading(directory / "meta.json"):
            results.append(janus_training.check_trained(case))
    if any(path.exists() for path in janus_reading.templates_of(case)):
        with reading(directory / "templates.json"):
            results += janus_reading.check_templates(case)
    if _COMMUNITY in names:
        results += _check_community(checkpoint)
    for name in names:
        if name not in (_COMMUNITY, "meta.json", "templates.json") and files.get(name) not in _CHECKS:
            results.append(Unchecked(name, "describes the case, or is unknown to this command"))
    return results


def _check_community(original: Checkpoint) -> list[GroupResult | Unchecked]:
    """The same weights and sizes, read from the other layout."""
    directory = original.directory
    with tempfile.TemporaryDirectory() as folder:
        for path in [*(directory / _COMMUNITY).iterdir(), *(directory / name for name in _SIDE_FILES)]:
            shutil.copyfile(path, f"{folder}/{path.name}")
        other = open_checkpoint(folder, JANUS_PRO)
        same = other.config == original.config
        pairs = [(name, original.arrays.read(name, None, np.float32),
                  other.arrays.read(name, None, np.float32) if name in other.arrays.shapes else None)
                 for name in original.arrays.shapes]
    return [
        GroupResult("community/config", float(not same), 0.0, "exact", 1, same,
                    "" if same else f"expected {original.config}, found {other.config}"),
        compare_exact("community/weights", pairs),
    ]
