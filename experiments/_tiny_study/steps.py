"""The work of the study, step by step, each through the command that users run. What a step has finished is kept."""

import dataclasses
import os
import shutil
from collections.abc import Callable, Sequence

from etils import epath

from experiments._tiny_rewards import SEED
from srum_jax import train
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

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in ("guidance", "learning_rate") and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{field.name}: expected a positive number, found {value!r}.")


@dataclasses.dataclass(frozen=True)
class Study:
    """A study's folder and size."""

    out: epath.Path
    settings: StudySettings

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
        _must_succeed(make_rewards, command, (0, _ROWS_LEFT_OUT))
        return folder

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
        settings, label = self.settings, f"{name or variant}-{seed}"
        exported, workdir = self.out / "models" / label, self.out / "training" / label
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


def _must_succeed(command: Callable[[Sequence[str]], int], words: Sequence[str], codes: Sequence[int] = (0,)) -> None:
    code = command(words)
    if code not in codes:
        raise StudyError(f"{' '.join(words)}: ended with exit code {code}; give the same command again to go on.")
