"""The work of the study, step by step, each through the command that users run. What a step has finished is kept."""

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from etils import epath

from experiments._tiny_bases.bases import BASES, TinyBase, base_of
from experiments._tiny_recipe import tiny_recipe
from experiments._tiny_rewards import planned_first
from experiments._tiny_study.errors import SettingsError, StudyError
from experiments._tiny_study.sentences import training_prompts
from experiments._tiny_study.settings import StudySettings
from srum_jax import train
from srum_jax.errors import BadInput
from srum_jax.overrides import to_json
from srum_jax.stages import noted
from srum_jax.storage.atomic_file import write_json
from srum_jax.weights.errors import WeightsError
from srum_jax.weights.fingerprint import directory_fingerprint
from srum_jax.worlds.shapes.prompt_set import write_prompt_files
from tools.convert_weights.__main__ import main as convert_weights
from tools.make_rewards.__main__ import main as make_rewards

# Exit codes of the commands.
_CANNOT_BE_USED, _ROWS_LEFT_OUT, _INTERRUPTED = 2, 3, 130
_MADE_BY = "python -m experiments.tiny_study"
_RECIPE_FILE = "recipe.json"


@dataclasses.dataclass(frozen=True)
class Study:
    """A study's folder and size."""

    out: epath.Path
    settings: StudySettings
    base: TinyBase

    @classmethod
    def begin(cls, out: epath.Path, settings: StudySettings, base: epath.PathLike) -> "Study":
        """A new study, or one that was begun with the same settings; variants may be added.

        Raises:
          BadInput: the folder was begun with others.
          SettingsError: the base is none, or cannot plan although that is asked for.
        """
        try:
            own = base_of(base)
        except (BadInput, WeightsError) as error:
            raise SettingsError(f"--base {os.fspath(base)}: {error}") from error
        if settings.think and own.family != "bagel":
            raise SettingsError(f"--think: expected a base of BAGEL's family, found {own.family}, which has no plans.")
        noted.note(_settings_file(out), dataclasses.asdict(settings) | {
            "base": own.name, "base_sha256": directory_fingerprint(base)})
        return cls(out, settings, own)

    @classmethod
    def read(cls, out: epath.Path) -> "Study":
        """A study that was begun."""
        found = noted.read(_settings_file(out))
        values = {field.name: found[field.name] for field in dataclasses.fields(StudySettings)}
        return cls(out, StudySettings(**values | {"guidance": tuple(values["guidance"])}), BASES[found["base"]])

    @property
    def candidate_guidance(self) -> float:
        """The guidance scale that candidates are drawn with."""
        given = self.settings.candidate_guidance
        return self.base.guidance if given is None else given

    def rewards(self, number: int, checkpoint: epath.PathLike) -> epath.Path:
        """Candidates, regions, judgements and records of a round, drawn and judged by a checkpoint.

        Args:
          number: of the round, from 1; each draws its prompts anew, few of which come in another round too.
          checkpoint: of the model that draws and judges.

        Returns:
          The folder of the run.
        """
        folder = self.out / "rewards" / f"round{number}"
        settings = self.settings
        chosen = training_prompts(settings, number)
        try:
            prompts, keywords = write_prompt_files(self.out / "prompts" / f"round{number}", chosen)
        except ValueError as error:
            raise SettingsError(str(error)) from error
        command = ["run", "--experiment", self.base.srum, "--out", os.fspath(folder), "--prompts", os.fspath(prompts),
                   "--set", f"generate.keywords={os.fspath(keywords)}",
                   "--checkpoint", os.fspath(checkpoint), "--set", f"generate.num_candidates={settings.candidates}"]
        command += ["--set", f"generate.{self.base.guidance_setting}={self.candidate_guidance}"]
        if settings.think:
            for name, value in planned_first().items():
                command += ["--set", f"generate.{name}={value}"]
        must_succeed(make_rewards, command, (0, _ROWS_LEFT_OUT))
        return folder

    def checkpoint(self, name: str, seed: int) -> epath.Path:
        """Where `model` puts a checkpoint."""
        return self.out / "models" / f"{name}-{seed}"

    def model(
        self, variant: str, seed: int, records: epath.Path, start: epath.PathLike, name: str | None = None
    ) -> epath.Path:
        """A model trained on records, exported in the layout of its start.

        Args:
          variant: of the recipe.
          seed: of the run.
          records: directory of records, or of a run of `make_rewards`.
          start: checkpoint that training starts from.
          name: of the model in the study; None: that of the variant.

        Returns:
          The exported checkpoint; its `recipe.json` says how it was made.

        Raises:
          SettingsError: it is there, but was made in another way: the variant has changed.
          StudyError: training or the export failed, or was stopped.
        """
        return self.trained(
            f"{self.base.srum}:{variant}", name or variant, seed, start, to_json(tiny_recipe(variant, self.base.name)),
            {"data.records": os.fspath(records), "model.checkpoint": os.fspath(start),
             "data.rows_per_batch": self.settings.rows_per_batch}, {"records": os.fspath(records)})

    def trained(
        self, experiment: str, name: str, seed: int, start: epath.PathLike, variant: dict[str, Any],
        values: Mapping[str, Any], paths: Mapping[str, str],
    ) -> epath.Path:
        """A model that an experiment trains, exported in the layout of its start.

        Args:
          experiment: its name, with its variant.
          name: of the model in the study.
          seed: of the run.
          start: checkpoint that training starts from.
          variant: the experiment's own settings, for the recipe.
          values: of settings, by name; those of the study's size and the seed are added.
          paths: of what was trained on, for the recipe.

        Returns, Raises:
          As `model`.
        """
        exported = self.checkpoint(name, seed)
        if not exported.exists():
            self._train(experiment, values | {"seed": seed}, start, exported)
        found = _read_recipe(exported)
        recipe = {"made_by": _MADE_BY, "start_sha256": directory_fingerprint(start), "seed": seed, "variant": variant}
        if found == _read_recipe(epath.Path(start)):  # the export has copied that of the start, if there is one
            # Paths as they were then: a study may be moved.
            write_json(exported / _RECIPE_FILE, recipe | {"start": os.fspath(start)} | paths)
        elif changed := ", ".join(key for key, value in recipe.items()
                                  if _unplaced(found.get(key)) != _unplaced(value)):
            raise SettingsError(f"{exported}: was made in another way ({changed}; see its {_RECIPE_FILE}). Use another "
                                "--out, or remove it together with its marks and its folder in `training`.")
        return exported

    def _train(
        self, experiment: str, values: Mapping[str, Any], start: epath.PathLike, exported: epath.Path
    ) -> None:
        settings, workdir = self.settings, self.out / "training" / exported.name
        values = {"training.steps": settings.steps, "training.save_every": settings.steps,
                  "optimizer.learning_rate": settings.learning_rate} | values
        must_succeed(train.main, [f"--experiment={experiment}", "--workdir", os.fspath(workdir),
                                  *(f"--set={name}={value}" for name, value in values.items())])
        if not (workdir / "checkpoints" / str(settings.steps)).exists():  # SIGTERM saves, and ends with 0
            raise StudyError(f"{os.fspath(workdir)}: training was stopped before step {settings.steps}; give the same "
                             "command again to go on.")
        exported.parent.mkdir(parents=True, exist_ok=True)
        must_succeed(convert_weights, ["export", "--checkpoint", os.fspath(workdir), "--template", os.fspath(start),
                                        "--out", os.fspath(exported)])
        shutil.rmtree(workdir / "checkpoints")  # the exported model says all that the study needs


def _unplaced(value: Any) -> Any:
    """A variant without where its base lies: this repository may move. `start_sha256` says which it was."""
    return value | {"model": value["model"] | {"checkpoint": ""}} if isinstance(value, dict) else value


def _read_recipe(checkpoint: epath.Path) -> dict[str, Any]:
    path = checkpoint / _RECIPE_FILE
    return json.loads(path.read_text()) if path.exists() else {}


def _settings_file(out: epath.Path) -> epath.Path:
    return out / "study.json"


def must_succeed(command: Callable[[Sequence[str]], int], words: Sequence[str], codes: Sequence[int] = (0,)) -> None:
    """Runs a command of this package in this process.

    Raises:
      KeyboardInterrupt, SettingsError, StudyError: by its exit code, unless that is one of `codes`.
    """
    code = command(words)
    if code == _INTERRUPTED:
        raise KeyboardInterrupt
    if code == _CANNOT_BE_USED:
        raise SettingsError(f"{' '.join(words)}: cannot be used; the reason stands above.")
    if code not in codes:
        raise StudyError(f"{' '.join(words)}: ended with exit code {code}; give the same command again to go on.")
