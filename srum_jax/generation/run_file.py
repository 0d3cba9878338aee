"""`run.json`: what a folder was begun with, so that a resumed run cannot mix two."""

import dataclasses
import hashlib
from typing import Any

import srum_jax
from srum_jax.generation.prompts import Prompt, to_jsonl
from srum_jax.generation.run_settings import GenerationSettings
from srum_jax.overrides import to_json
from srum_jax.stages import STAGE_VERSION, noted
from srum_jax.stages.folder import StageFolder


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
        settings = to_json(self.settings)
        return {
            "stage_version": STAGE_VERSION,
            "package_version": srum_jax.__version__,
            "num_shards": settings["output"].pop("num_shards"),
            "prompts": {
                "set": self.prompts[0].set if self.prompts else None,
                "count": len(self.prompts),
                "sha256": hashlib.sha256(to_jsonl(self.prompts)).hexdigest(),
            },
            "generate": {
                "checkpoint_sha256": self.checkpoint_sha256,
                **({} if self.vae_sha256 is None else {"vae_sha256": self.vae_sha256}),
                "templates": self.templates,
                "settings": settings,
            },
        }


PROMPTS = "prompts.jsonl"  # below the folder of a run


def compare_run(run: Run, folder: StageFolder) -> bool:
    """Whether the folder was begun before.

    Raises:
      BadInput: it was, with something else; lists the differences.
    """
    return noted.compare(folder.settings, run.to_json())


def begin_run(run: Run, folder: StageFolder) -> None:
    """Writes `prompts.jsonl` and `run.json`, if another process has not done so.

    Raises:
      BadInput: another process began it with something else just now.
    """
    folder.create(folder.root / PROMPTS, to_jsonl(run.prompts))
    noted.note(folder.settings, run.to_json())
