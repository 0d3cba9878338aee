"""`run.json`: what a folder was begun with, so that a resumed run cannot mix two."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from etils import epath

import srum_jax
from srum_jax.generation.output_folder import OutputFolder
from srum_jax.generation.prompts import Prompt, to_jsonl
from srum_jax.generation.run_settings import STAGE_VERSION, GenerationSettings
from srum_jax.storage import object_store


class RunChangedError(ValueError):
    """A folder was begun with other settings, prompts or weights."""


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything that decides the contents of a folder."""

    settings: GenerationSettings
    prompts: list[Prompt]
    checkpoint_sha256: str
    templates: dict[str, str]  # name -> SHA-256, of those that are used
    vae_sha256: str | None = None  # fingerprint of the autoencoder's file, where it has one of its own

    def to_json(self) -> dict[str, Any]:
        """Contents of `run.json`; no dates, paths or names of machines."""
        return {
            "stage_version": STAGE_VERSION,
            "package_version": srum_jax.__version__,
            "num_shards": self.settings.num_shards,
            "prompts": {
                "set": self.prompts[0].set if self.prompts else None,
                "count": len(self.prompts),
                "sha256": hashlib.sha256(to_jsonl(self.prompts)).hexdigest(),
            },
            "generate": {
                "checkpoint_sha256": self.checkpoint_sha256,
                **({} if self.vae_sha256 is None else {"vae_sha256": self.vae_sha256}),
                "templates": self.templates,
                "settings": {name: value for name, value in self.settings.to_json().items() if name != "num_shards"},
            },
        }


def compare_run(run: Run, folder: OutputFolder) -> bool:
    """Whether the folder was begun before.

    Raises:
      RunChangedError: it was, with something else; lists the differences.
    """
    if not folder.run_json.exists():
        return False
    compare_noted(folder.run_json, run.to_json())
    return True


def compare_settings(path: epath.Path, settings: Mapping[str, Any], folder: OutputFolder) -> None:
    """Notes the settings of a stage in a file of the folder, or compares them with what was noted before.

    Raises:
      RunChangedError: it was begun with something else; lists the differences.
    """
    if not path.exists():
        folder.create_json(path, settings)
    compare_noted(path, settings)


def compare_noted(path: epath.Path, settings: Mapping[str, Any]) -> None:
    """Compares settings with those that were noted in a file.

    Raises:
      RunChangedError: they are others, or the file is damaged; lists the differences.
    """
    try:
        before = json.loads(object_store.read_bytes(path))
    except ValueError as error:
        raise RunChangedError(f"{path}: not valid JSON ({error}); use another --out.") from error
    raise_differences(path, before, settings, "Use another --out, or the same settings.")


def raise_differences(path: epath.Path, before: Any, settings: Any, advice: str) -> None:
    """Compares what a folder was begun with and what it is to be now.

    Raises:
      RunChangedError: lists the differences, and the advice.
    """
    differences = list(_differences(before, json.loads(json.dumps(settings)), ""))
    if differences:
        raise RunChangedError("\n  ".join([
            f"{path}: this folder was begun with something else:",
            *(f"{name}: the folder {_shown(old)}, this command {_shown(new)}" for name, old, new in differences),
            advice,
        ]))


def begin_run(run: Run, folder: OutputFolder) -> None:
    """Writes `prompts.jsonl` and `run.json`, if another process has not done so.

    Raises:
      RunChangedError: another process began it with something else just now.
    """
    folder.create(folder.prompts, to_jsonl(run.prompts))
    if not compare_run(run, folder):
        folder.create_json(folder.run_json, run.to_json())
        compare_run(run, folder)


def _differences(before: Any, after: Any, name: str):
    if isinstance(before, dict) and isinstance(after, dict):
        for key in {**after, **before}:
            yield from _differences(before.get(key), after.get(key), f"{name}.{key}" if name else key)
    elif before != after:
        yield name, before, after


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
