"""Which comparisons a case folder of Janus-Pro calls for."""

import functools
import shutil
import tempfile

import numpy as np
from etils import epath

from srum_jax.models.janus_pro.architecture import JANUS_PRO
from srum_jax.weights.checkpoint import open_checkpoint
from tools.check_parity import janus_drawing, janus_reading, janus_training
from tools.check_parity.model_case import Case, Check, Results, check_case
from tools.check_parity.result import compare_exact, compare_values

# File of recorded tensors, without `golden_` and ending -> what recomputes them.
_CHECKS: dict[str, Check] = {
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


def check(directory: epath.PathLike) -> Results:
    """Recomputes whatever the folder holds.

    Args:
      directory: of weights in the authors' layout with `golden_*` files, perhaps `community` with the same weights in
        the other layout; `templates.json` may lie in it or beside it.

    Raises:
      BadInput: it is no such folder.
    """
    others = {"meta.json": janus_training.check_trained, _COMMUNITY: _check_community} | {
        file: functools.partial(janus_reading.check_templates, file=file)
        for file in ("templates.json", "../templates.json")}
    return check_case(directory, JANUS_PRO, _CHECKS, others)


def _check_community(case: Case) -> Results:
    """The same weights and sizes, read from the other layout."""
    directory, original = case.directory, case.checkpoint
    with tempfile.TemporaryDirectory() as folder:
        for path in [*(directory / _COMMUNITY).iterdir(), *(directory / name for name in _SIDE_FILES)]:
            shutil.copyfile(path, f"{folder}/{path.name}")
        other = open_checkpoint(folder, JANUS_PRO)
        same = other.config == original.config
        pairs = [(name, original.arrays.read(name, None, np.float32),
                  other.arrays.read(name, None, np.float32) if name in other.arrays.shapes else None)
                 for name in original.arrays.shapes]
    return [
        compare_values("community/config", 1, [] if same else [f"expected {original.config}, found {other.config}"]),
        compare_exact("community/weights", pairs),
    ]
