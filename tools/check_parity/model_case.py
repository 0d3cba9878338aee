"""A case of weights with `golden_*` files: opening it, and recomputing file after file."""

import dataclasses
import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import nnx

from srum_jax.errors import BadInput
from srum_jax.inference.context import Context
from srum_jax.models.architecture import Architecture
from srum_jax.models.compute import ComputeConfig
from srum_jax.storage.reading import is_hidden
from srum_jax.weights.checkpoint import Checkpoint, open_checkpoint
from srum_jax.weights.load import load
from srum_jax.weights.table import Plan
from tools.check_parity.result import GroupResult, Unchecked, unknown_files
from tools.check_parity.tensors import Tensors, read_tensors, reading

COMPUTE = ComputeConfig(scan_layers=False, remat="none")  # of every layer its result is looked at

Results = list[GroupResult | Unchecked]


@dataclasses.dataclass(frozen=True)
class Case:
    """What a check may need.

    Attributes:
      directory: of the case.
      checkpoint: in it.
      model: with every part that the case has weights of.
      tensors: of each `golden_*` file, by its name without `golden_` and ending.
    """

    directory: epath.Path
    checkpoint: Checkpoint
    model: Any
    tensors: dict[str, Tensors]

    @property
    def config(self) -> Any:
        """Of the model."""
        return self.checkpoint.config

    @property
    def plan(self) -> Plan:
        """Pairs the model's arrays with published names."""
        return self.checkpoint.published.plan

    @property
    def meta(self) -> dict[str, Any]:
        """Settings of the recorded runs."""
        return json.loads((self.directory / "meta.json").read_text())


Check = Callable[[Case], Results]


def check_case(
    directory: epath.PathLike,
    architecture: Architecture,
    checks: Mapping[str, Check],
    others: Mapping[str, Check],
    parts: Callable[[epath.Path], Collection[str]] | None = None,
) -> Results:
    """Recomputes whatever a folder holds.

    Args:
      directory: of the case.
      architecture: of its model.
      checks: what recomputes each `golden_*` file, by its name without `golden_` and ending.
      others: the same for other entries of the folder, or beside it, by their paths.
      parts: optional parts of the model that the folder has; None for all.

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
    checkpoint = open_checkpoint(directory, architecture, None if parts is None else parts(directory))
    tensors = {}
    for file, name in files.items():
        with reading(directory / file):
            tensors[name] = read_tensors(directory / file)
    case = Case(directory, checkpoint, nnx.merge(*load(checkpoint)), tensors)
    results: Results = []
    known = {file: checks[name] for file, name in files.items() if name in checks} | dict(others)
    for entry, check in known.items():
        if (directory / entry).exists():
            with reading(directory / entry):
                results += check(case)
    return results + unknown_files(directory, known)


class Taps(dict):
    """Keeps what it is called with, by name; see `tap` of the models."""

    def __call__(self, name: str, value: jax.Array) -> None:
        """A tap."""
        self.setdefault(name, []).append(np.asarray(value))


def greedy(
    step: Callable[..., tuple[jax.Array, Context]], first: jax.Array, context: Context, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """The likeliest tokens one after the other, int32 [B, count], without one that ends; and all scores, [B, count, V].

    Args:
      step: (context, tokens [B], how many of each row are real [B]) -> (scores [B, V], context).
      first: scores of the first token, float32 [B, V].
      context: of the prompts.
      count: of tokens.
    """
    scores = [first]
    tokens = [jnp.argmax(first, axis=-1).astype(jnp.int32)]
    for _ in range(count - 1):
        found, context = step(context, tokens[-1], jnp.ones(len(first), jnp.int32))
        scores.append(found)
        tokens.append(jnp.argmax(found, axis=-1).astype(jnp.int32))
    return np.stack(tokens, axis=1), np.stack(scores, axis=1)
