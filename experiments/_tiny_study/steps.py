"""The work of the study, step by step, each through the command that users run. What a step has finished is kept."""

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Sequence

from etils import epath

from experiments._tiny_rewards import SEED, planned_first
from srum_jax import train
from srum_jax.data.atomic_file import write_json
from srum_jax.worlds.shapes.prompt_set import balanced_prompts, write_prompt_files
from tools.convert_weights.__main__ import main as convert_weights
from tools.make_rewards.__main__ import main as make_rewards

_ROWS_LEFT_OUT = 3  # exit code of a stage that rejected more than usual; a study reports it and goes on


class StudyError(RuntimeError):
    """A step of the study failed."""


@dataclasses.dataclass(frozen=True)
class StudySettings:
    """The size of a study."""

    prompts_per_category: int = 96  # that candidates are drawn for
    candidates: int = 2  # per prompt
    steps: int = 300  # of each training run
    learning_rate: float = 1e-4
    rows_per_batch: int = 16  # two pictures each
    seeds: int = 3  # training runs of a variant
    evaluation_prompts_per_category: int = 60  # held out
    validation_prompts_per_category: int = 12  # training sentences, for the choice of guidance
    guidance: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0, 4.0)  # scales to choose from
    think: bool = False  # candidates are planned first, and models are examined with plans too

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if type(field.default) in (int, float) and not 0 < value < float("inf"):
                raise ValueError(f"{field.name}: expected a positive number, found {value!r}.")


@dataclasses.dataclass(frozen=True)
class Study:
    """A study's folder and size."""

    out: epath.Path
    settings: StudySettings

    @classmethod
    def begin(cls, out: epath.Path, settings: StudySettings, base: epath.PathLike) -> "Study":
        """A new study, or one that was begun with the same settings; variants may be added.

        Raises:
          ValueError: the folder was begun with others.
        """
        path = _settings_file(out)
        described = json.loads(json.dumps(dataclasses.asdict(settings))) | {"base": os.fspath(base)}
        if path.exists():
            found = json.loads(path.read_text())
            changed = [f"{name}: the folder {found.get(name)}, this command {value}"
                       for name, value in described.items() if found.get(name) != value]
            if changed:
                raise ValueError(f"--out {out}: this folder was begun with other settings: {'; '.join(changed)}. Use "
                                 "another --out.")
        else:
            out.mkdir(parents=True, exist_ok=True)
            write_json(path, described)
        return cls(out, settings)

    @classmethod
    def read(cls, out: epath.Path) -> "Study":
        """A study that was begun."""
        found = json.loads(_settings_file(out).read_text())
        found["guidance"] = tuple(found["guidance"])
        return cls(out, StudySettings(**{field.name: found[field.name] for field in dataclasses.fields(StudySettings)}))

    def rewards(self, number: int, checkpoint: epath.PathLike) -> epath.Path:
        """Candidates, regions, judgements and records of a round, drawn and judged by a checkpoint.

        Args:
          number: of the round, from 1; each has prompts of its own.
          checkpoint: of the model that draws and judges.

        Returns:
          The folder of the run.
        """
        folder = self.out / "rewards" / f"round{number}"
        settings = self.settings
        chosen = balanced_prompts(settings.prompts_per_category, SEED + number, held_out=False)
        prompts, keywords = write_prompt_files(self.out / "prompts" / f"round{number}", chosen)
        command = ["run", "--experiment", "tiny_srum", "--out", os.fspath(folder), "--prompts", os.fspath(prompts),
                   "--set", f"generate.keywords={os.fspath(keywords)}",
                   "--checkpoint", os.fspath(checkpoint), "--set", f"generate.num_candidates={settings.candidates}"]
        if settings.think:
            for name, value in planned_first().items():
                command += ["--set", f"generate.{name}={value}"]
        _must_succeed(make_rewards, command, (0, _ROWS_LEFT_OUT))
        return folder

    def checkpoint(self, name: str, seed: int) -> epath.Path:
        """Where `model` puts a checkpoint."""
        return self.out / "models" / f"{name}-{seed}"

    def model(
        self, variant: str, seed: int, rewards: epath.Path, start: epath.PathLike, name: str | None = None
    ) -> epath.Path:
        """A model trained on records, exported in the layout of its start.

        Args:
          variant: of the recipe.
          seed: of the run.
          rewards: the folder of a run of `make_rewards`.
          start: checkpoint that training starts from.
          name: of the model in the study; None: that of the variant.

        Returns:
          The exported checkpoint.
        """
        settings, exported = self.settings, self.checkpoint(name or variant, seed)
        workdir = self.out / "training" / exported.name
        if exported.exists():
            return exported
        _must_succeed(train.main, [
            f"--experiment=tiny_srum:{variant}", "--workdir", os.fspath(workdir),
            "--set", f"data.records={os.fspath(rewards / 'export')}", "--set", f"model.checkpoint={os.fspath(start)}",
            "--set", f"training.steps={settings.steps}", "--set", f"training.save_every={settings.steps}",
            "--set", f"optimizer.learning_rate={settings.learning_rate}", "--set", f"seed={seed}",
            "--set", f"data.rows_per_batch={settings.rows_per_batch}",
        ])
        if not (workdir / "checkpoints" / str(settings.steps)).exists():  # SIGTERM saves, and ends with 0
            raise StudyError(f"{os.fspath(workdir)}: training was stopped before step {settings.steps}; give the same "
                             "command again to go on.")
        exported.parent.mkdir(parents=True, exist_ok=True)
        _must_succeed(convert_weights, ["export", "--checkpoint", os.fspath(workdir), "--template", os.fspath(start),
                                        "--out", os.fspath(exported)])
        shutil.rmtree(workdir / "checkpoints")  # the exported model says all that the study needs
        return exported


def _settings_file(out: epath.Path) -> epath.Path:
    return out / "study.json"


def _must_succeed(command: Callable[[Sequence[str]], int], words: Sequence[str], codes: Sequence[int] = (0,)) -> None:
    code = command(words)
    if code not in codes:
        raise StudyError(f"{' '.join(words)}: ended with exit code {code}; give the same command again to go on.")
