"""Small parts: masks, tables, times, image transforms, schedules and sample plans."""

import json
from collections.abc import Callable
from typing import Any

from etils import epath

from tools.check_parity import unit_images, unit_numbers, unit_sequences
from tools.check_parity.result import GroupResult, Unchecked, unknown_files
from tools.check_parity.tensors import Tensors, read_tensors

# What each check needs: tensors whose names start with its own name, and an entry of units.json, where there is one.
Check = Callable[[Any, Tensors], list[GroupResult]]
_CHECKS: dict[str, Check] = {
    "mask": unit_sequences.check_masks,
    "position_ids": unit_sequences.check_position_ids,
    "plans": unit_sequences.check_plans,
    "sincos": unit_numbers.check_sincos,
    "timestep_embedding": unit_numbers.check_timestep_embedding,
    "train_time": unit_numbers.check_train_time,
    "schedule": unit_numbers.check_schedule,
    "lr": unit_numbers.check_learning_rate,
    "resize": unit_images.check_resize,
    "image_transform": unit_images.check_image_transform,
    "patchify14": unit_images.check_patchify,
}
_ENTRY_OF = {"mask": "masks"}  # where the JSON entry has another name than the tensors
# Rows hold a fixed number of samples here; the reference fills packs up to a number of tokens, and loses samples.
_NOT_OURS = {"packing": "the reference's packing by token count, which nothing here does"}


def check(directory: epath.PathLike) -> list[GroupResult | Unchecked]:
    """Recomputes every tensor of units.safetensors and every entry of units.json.

    Args:
      directory: holds both files.
    """
    directory = epath.Path(directory)
    tensors = read_tensors(directory / "units.safetensors")
    json_file = directory / "units.json"
    entries = json.loads(json_file.read_text()) if json_file.exists() else {}
    results: list[GroupResult | Unchecked] = []
    seen_tensors, seen_entries = set(), set()
    for name, run in _CHECKS.items():
        own = {key: value for key, value in tensors.items() if key == name or key.startswith(name + ".")}
        entry = _ENTRY_OF.get(name, name)
        if not own and entry not in entries:
            results.append(GroupResult(name, 0.0, 0.0, "", 0, False, "expected, but the folder holds nothing of it"))
            continue
        results += run(entries.get(entry), own)
        seen_tensors |= set(own)
        seen_entries.add(entry)
    results += [Unchecked(key, "tensor unknown to this command") for key in sorted(set(tensors) - seen_tensors)]
    results += [Unchecked(f"units.json: {key}", _NOT_OURS.get(key, "entry unknown to this command"))
                for key in sorted(set(entries) - seen_entries)]
    return results + unknown_files(directory, ("units.safetensors", "units.json"))
