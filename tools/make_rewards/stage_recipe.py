"""The arguments of all stages together, as an experiment states them and the command line changes them.

An experiment's file may define `rewards(folder) -> {stage: {argument: value}}`; it may write files that the stages
need, such as prompts, into the folder. An argument is spelled as in Python: `max_share` is `--max-share`. One with a
dot is a setting: `sampler.shift` is `--set sampler.shift=...`.
"""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from srum_jax.command_line import user_path, words_of
from srum_jax.errors import BadInput
from srum_jax.experiment import load_recipe
from srum_jax.rewards.judgement.settings import JudgeSettings

STAGES = ("generate", "segment", "judge", "export")
# Settings that the stages' own --set takes, by the first part of their names.
_GROUPS = {"sampler": "generate", "plan": "generate", "output": "generate", "sam": "segment", "grounding": "segment",
           "components": "segment", "judge": "judge"}
_OF_JUDGE = frozenset(field.name for field in dataclasses.fields(JudgeSettings))
_SWITCHES = {"true": True, "false": False, "none": None}

Arguments = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class StageRecipe:
    """Arguments by stage, without --out."""

    arguments: Mapping[str, Arguments]

    def command_line(self, stage: str, out: str) -> list[str]:
        """The words of a stage's command, after its name."""
        words = ["--out", out]
        for name, value in self.arguments.get(stage, {}).items():
            words += words_of(name, value)
        return words

    def changed(self, stage: str, **values: Any) -> "StageRecipe":
        """With other arguments of one stage."""
        arguments = {name: dict(self.arguments.get(name, {})) for name in STAGES}
        arguments[stage] |= values
        return StageRecipe(arguments)


def read_stage_recipe(experiment: str, folder: epath.Path) -> StageRecipe:
    """What an experiment says of the stages.

    Raises:
      ExperimentError: no such experiment.
      BadInput: it says nothing, or nothing that can be understood.
    """
    rewards = load_recipe(experiment).rewards
    if rewards is None:
        raise BadInput(f"--experiment {experiment}: expected a function rewards(folder) with the arguments of the "
                            "stages in its file, found none.")
    stages = rewards(folder)
    unknown = set(stages) - set(STAGES)
    if unknown:
        raise BadInput(f"--experiment {experiment}: rewards(): expected stages among {', '.join(STAGES)}, found "
                            f"{', '.join(sorted(unknown))}.")
    return StageRecipe({stage: dict(stages.get(stage, {})) for stage in STAGES})


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options that name what a recipe leaves open."""
    parser.add_argument("--checkpoint", type=user_path, metavar="DIR", help="the model that draws and judges")
    parser.add_argument("--prompts", type=user_path, metavar="FILE", help="what it draws")
    parser.add_argument("--sam-model", type=user_path, metavar="DIR", help="the SAM that proposes regions")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE",
                        help="change an argument of a stage (generate.num_candidates=4), or a setting that its own "
                             "--set takes (sampler.num_timesteps=25, judge.max_regions=5); none takes it away; "
                             "repeatable")


def with_inputs(recipe: StageRecipe, arguments: argparse.Namespace) -> StageRecipe:
    """Fills in what `add_input_arguments` declares, where it was given.

    Raises:
      BadInput: a setting that is not of its form.
    """
    asked = ("segment",) if recipe.arguments.get("segment", {}).get("provider") == "grounding" else ()
    for name, stages in (("checkpoint", ("generate", *asked, "judge")), ("prompts", ("generate",)),
                         ("sam_model", ("segment",))):
        value = getattr(arguments, name)
        for stage in stages if value is not None else ():
            recipe = recipe.changed(stage, **{name: value})
    return with_settings(recipe, arguments.set)


def with_settings(recipe: StageRecipe, settings: Sequence[str]) -> StageRecipe:
    """Changes a recipe by `STAGE.ARGUMENT=VALUE`, or by a setting of a stage, `GROUP.FIELD=VALUE`.

    Of an argument, true and false switch; none takes either away.

    Raises:
      BadInput: a setting that is not of this form.
    """
    for setting in settings:
        name, equals, text = (part.strip() for part in setting.partition("="))
        first, dot, rest = name.partition(".")
        if not equals or not dot or not rest or first not in (*STAGES, *_GROUPS):
            raise BadInput(f"--set {setting}: expected STAGE.ARGUMENT=VALUE with a stage among {', '.join(STAGES)}, "
                           f"for instance generate.num_candidates=4, or a setting: {', '.join(_GROUPS)}.*.")
        if first in STAGES and not (first == "judge" and rest in _OF_JUDGE):
            stage, argument = first, rest.replace("-", "_")
        else:
            stage, argument = _GROUPS[first], name
        recipe = recipe.changed(stage, **{argument: _SWITCHES.get(text, text)})
    return recipe


def check_command_lines(recipe: StageRecipe, out: str, modules: Mapping[str, Any]) -> None:
    """Parses the commands of all stages, and their settings, as they themselves will.

    Args:
      recipe: of the run.
      out: its folder.
      modules: that declare the options, by stage.

    Raises:
      BadInput: a stage does not take its arguments.
    """
    for stage in STAGES:
        parser = argparse.ArgumentParser(prog=stage, exit_on_error=False)
        modules[stage].add_arguments(parser)
        words = recipe.command_line(stage, out)
        try:
            arguments, unknown = parser.parse_known_args(words)
        except argparse.ArgumentError as error:
            raise BadInput(f"{stage}: {error}") from error
        except SystemExit as error:  # argparse has said what is wrong
            raise BadInput(f"{stage}: these arguments cannot be used: {' '.join(words)}") from error
        if unknown:
            raise BadInput(f"{stage}: expected arguments that `{stage} --help` lists, found {' '.join(unknown)}.")
        if stage in ("segment", "judge"):  # `generate` needs the checkpoint for this; it comes first anyway
            modules[stage].settings_of(arguments)
