"""The trained models that ship with the package.

`trained_base` is a tiny BAGEL and `trained_janus` a tiny Janus-Pro, each in a layout of the released checkpoints: they
draw and judge pictures of 48 x 48 pixels. How they were made and what they can do is in `recipe.json` beside their
weights (see `experiments/tiny_pretrain.py`).
"""

import json

from etils import epath

from srum_jax.errors import BadInput
from srum_jax.storage.atomic_file import file_sha256

RECIPE = "recipe.json"


def trained_base() -> epath.Path:
    """The directory of the trained base.

    Raises:
      BadInput: the package was installed without it.
    """
    return _shipped("base_weights", "base")


def trained_janus() -> epath.Path:
    """The directory of the trained Janus-Pro, which also says sentences about pictures (`CAPTION_QUESTION`).

    Raises:
      BadInput: the package was installed without it.
    """
    return _shipped("janus_weights", "Janus-Pro")


def trained_sam() -> epath.Path:
    """The directory of the trained Segment Anything, which finds regions in pictures of this world.

    `tools.make_rewards segment --sam-model` takes it; `experiments/tiny_sam.py` has made it.

    Raises:
      BadInput: the package was installed without it.
    """
    return _shipped("sam_weights", "Segment Anything")


def _shipped(name: str, what: str) -> epath.Path:
    directory = epath.Path(__file__).parent / name
    if not (directory / RECIPE).exists():
        raise BadInput(f"{directory}: expected the trained {what} of the shapes world with its {RECIPE}, found "
                        "nothing; install srum_jax with its package data.")
    return directory


def check_trained_base(directory: epath.PathLike) -> None:
    """Compares all files of a trained base, or of the trained Segment Anything, with the checksums in its recipe.

    Raises:
      BadInput: naming every file that is absent or changed.
    """
    directory = epath.Path(directory)
    problems = []
    for name, expected in json.loads((directory / RECIPE).read_text())["sha256"].items():
        path = directory / name
        found = file_sha256(path) if path.exists() else "no such file"
        if found != expected:
            problems.append(f"{name}: expected sha256 {expected}, found {found}")
    if problems:
        raise BadInput(f"{directory}: damaged; copy it again: " + "; ".join(problems))
