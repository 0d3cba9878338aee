"""The state of an unfinished training run, as safetensors."""

import json
from collections.abc import Mapping
from typing import Any

import torch
from etils import epath
from safetensors import SafetensorError
from safetensors.torch import load, save

from srum_jax.errors import BadInput
from srum_jax.storage.atomic_file import write_bytes

_OPTIMIZER = "optimizer"
_LENGTH_BYTES = 8  # of a safetensors file: the length of its header


def save_state(
    path: epath.Path, modules: Mapping[str, torch.nn.Module], optimizer: torch.optim.Optimizer, progress: dict[str, Any]
) -> None:
    """Writes weights, moments and how far the run has come.

    Args:
      path: of the file.
      modules: by name.
      optimizer: of one of them.
      progress: plain values.
    """
    tensors = {f"{name}/{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    for number, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"{_OPTIMIZER}/{number}/{key}": value for key, value in moments.items()}
    # Some parts share their memory, which safetensors does not store.
    copies = {name: value.detach().clone().contiguous() for name, value in tensors.items()}
    write_bytes(path, save(copies, {"progress": json.dumps(progress)}))


def load_state(
    path: epath.Path, modules: Mapping[str, torch.nn.Module], optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Puts a saved state in place; returns the progress. Arguments as for `save_state`.

    Raises:
      BadInput: the file is damaged, or holds the state of another model.
    """
    data = path.read_bytes()
    try:
        tensors, progress = load(data), _progress(data)
        parts: dict[str, dict[str, torch.Tensor]] = {}
        for name, value in tensors.items():
            part, _, key = name.partition("/")
            parts.setdefault(part, {})[key] = value
        for name, module in modules.items():
            module.load_state_dict(parts[name])
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in parts.get(_OPTIMIZER, {}).items():
            number, _, key = name.partition("/")
            moments.setdefault(int(number), {})[key] = value
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    except (SafetensorError, RuntimeError, ValueError, KeyError) as error:
        raise BadInput(f"{path}: damaged, or of another model ({error}); remove it to start again.") from error
    return progress


def _progress(data: bytes) -> dict[str, Any]:
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    return json.loads(json.loads(data[_LENGTH_BYTES : _LENGTH_BYTES + length])["__metadata__"]["progress"])
