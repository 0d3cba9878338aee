"""The command line of the page, and the settings that it stands for. Imports no array library until an experiment's
own arguments are asked for."""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from etils import epath

from srum_jax.command_line import in_range, user_path, words_of
from srum_jax.demo.settings import DemoSettings
from srum_jax.errors import BadInput
from srum_jax.experiment import Recipe, load_recipe
from srum_jax.families.registry import recognise, samplers
from srum_jax.generation.prompt_file import read_prompt_file
from srum_jax.generation.prompt_formats import AUTO, find_format
from srum_jax.inference.settings import TextSampler
from srum_jax.model_arguments import add_model_arguments
from srum_jax.objectives.config import RewardWeighted
from srum_jax.overrides import add_set_argument, apply_overrides, together
from srum_jax.regions.components import ComponentsConfig
from srum_jax.regions.grounding import GroundingConfig
from srum_jax.regions.sam import SamConfig, check_files
from srum_jax.rewards.judgement.judge_templates import JudgeTemplates
from srum_jax.rewards.judgement.settings import PRESETS, Mode

SHIPPED = "tiny_srum"  # the experiment of the model that ships with the package
_SHIPPED_WORDS = ("--set", "plan.max_tokens=64")  # it has not learned to plan, and would write on and on
# Of the arguments of its stages, those that the page takes; settings are taken by their group.
_TAKEN = {
    "generate": ("dtype", "quantize", "attention", "templates", "control_tokens", "think"),
    "segment": ("provider", "sam_model", "max_candidates", "min_area", "max_share"),
    "judge": ("preset", "judge_templates", "batch_size"),
}
_SETTINGS = ("sampler", "plan", "sam", "grounding", "components", "judge")
_PROVIDERS = ("sam", "grounding", "components")
_NUM_EXAMPLES = 8
_EPILOG = """
examples:
  python -m srum_jax.demo                                    # the tiny model that ships with the package
  python -m srum_jax.demo --checkpoint BAGEL-7B-MoT --experiment bagel_cot --sam-model sam-vit-huge
  python -m srum_jax.demo --checkpoint before --against after --experiment bagel_cot

The page is seen from this machine alone; with --host 0.0.0.0 by everybody who can reach it.

exit codes:
  0    closed, by Ctrl-C
  1    the model failed
  2    the arguments or a checkpoint cannot be used
"""


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m srum_jax.demo", epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Opens a page on which a model draws, is asked, edits, judges its own picture and weighs it.")
    add_model_arguments(parser, required=False)
    group = parser.add_argument_group("page")
    group.add_argument("--against", type=user_path, metavar="DIR",
                       help="a second checkpoint of the same family, to be compared with the first")
    group.add_argument("--experiment", metavar="NAME",
                       help="draws and judges as this experiment makes its rewards, and weighs as it trains (default: "
                            f"the published settings; without --checkpoint {SHIPPED})")
    group.add_argument("--num-candidates", type=in_range(int, 1, 16), default=4, metavar="K",
                       help="pictures that are drawn together at most (default: %(default)s)")
    group.add_argument("--think", action=argparse.BooleanOptionalAction, default=False,
                       help="write a plan first, unless the visitor says otherwise")
    group.add_argument("--host", default="127.0.0.1", metavar="ADDRESS",
                       help="to listen at (default: %(default)s, this machine alone)")
    group.add_argument("--port", type=in_range(int, 1, 65535), default=7860, metavar="N", help="default: %(default)s")
    group.add_argument("--max-upload-mb", type=in_range(float, 0.01), default=10, metavar="MB",
                       help="of a visitor's picture (default: %(default)s)")
    group = parser.add_argument_group("regions and judgement")
    group.add_argument("--provider", choices=_PROVIDERS, help="of regions, the page's first choice")
    group.add_argument("--sam-model", type=user_path, metavar="DIR", help="a SAM checkpoint in Hugging Face's layout")
    group.add_argument("--max-candidates", type=in_range(int, 1), default=20, metavar="N",
                       help="largest regions that are kept (default: %(default)s)")
    group.add_argument("--min-area", type=in_range(int, 0), default=0, metavar="PIXELS",
                       help="smaller ones are dropped (default: %(default)s)")
    group.add_argument("--max-share", type=in_range(float, 0, 1), default=1.0, metavar="SHARE",
                       help="those of more than this share of the picture are dropped (default: %(default)g, none)")
    group.add_argument("--preset", choices=tuple(PRESETS), default="paper",
                       help="how pictures are judged (default: %(default)s)")
    group.add_argument("--judge-templates", type=user_path, metavar="FILE", help="questions in your own words, TOML")
    group.add_argument("--batch-size", type=in_range(int, 1), default=16, metavar="N",
                       help="questions answered together at most (default: %(default)s)")
    first, *others = samplers().values()
    add_set_argument(parser, _groups(first, PRESETS["paper"], RewardWeighted()),
                     *(together(sampler=sampler) for sampler in others))
    return parser


def read_arguments(argv: Sequence[str] | None) -> tuple[argparse.Namespace, DemoSettings]:
    """What was typed, behind what the experiment itself says.

    Raises:
      BadInput: naming the argument or the setting, what was expected and what was found.
    """
    argv = sys.argv[1:] if argv is None else argv
    parser = make_parser()
    typed = parser.parse_args(argv)
    recipe = None
    if typed.experiment is not None or typed.checkpoint is None:
        recipe = load_recipe(typed.experiment or SHIPPED)
    checkpoint = typed.checkpoint or recipe.experiment.model.checkpoint
    if not checkpoint:
        raise BadInput(f"--checkpoint: expected a model, found none, and the experiment {typed.experiment} names none.")
    family = recognise(checkpoint)
    if typed.against is not None and recognise(typed.against) != family:
        raise BadInput(f"--against {typed.against}: expected a checkpoint of the family {family}, as the first is, "
                       f"found one of {recognise(typed.against)}.")
    sampler = samplers()[family]
    _settings(typed, sampler, recipe, ())  # what is typed wrong is said before the experiment makes its prompts
    words, examples = _of_experiment(recipe)
    if typed.checkpoint is None and typed.experiment is None:
        words += _SHIPPED_WORDS
    args = parser.parse_args(["--checkpoint", os.fspath(checkpoint), *words, *argv])
    return args, _settings(args, sampler, recipe, examples)


def _settings(args: argparse.Namespace, sampler: Any, recipe: Recipe | None, examples: tuple[str, ...]) -> DemoSettings:
    objective = RewardWeighted() if recipe is None else recipe.experiment.objective
    if not isinstance(objective, RewardWeighted):
        raise BadInput(f"--experiment {args.experiment}: expected one whose objective weighs tokens (RewardWeighted), "
                       f"found {type(objective).__name__}.")
    chosen = apply_overrides(_groups(sampler, PRESETS[args.preset], objective), args.set)
    if chosen.judge.mode is Mode.QUESTIONS:
        raise BadInput("--set judge.mode: expected region or sample, found questions, which the page does not ask.")
    if args.sam_model is not None:
        check_files(args.sam_model)
    if args.provider == "sam" and args.sam_model is None:
        raise BadInput("--provider sam: expected --sam-model with it.")
    return DemoSettings(
        sampler=chosen.sampler, plan=chosen.plan, answer=chosen.answer, provider=args.provider,
        sam_model=args.sam_model, sam=chosen.sam, grounding=chosen.grounding, components=chosen.components,
        max_candidates=args.max_candidates, min_area=args.min_area, max_share=args.max_share, judge=chosen.judge,
        judge_templates=JudgeTemplates.read(args.judge_templates), judge_batch_size=args.batch_size,
        objective=chosen.objective, rows=None if recipe is None else recipe.experiment.rows, examples=examples,
        think=args.think)


def _groups(sampler: Any, judge: Any, objective: RewardWeighted) -> Any:
    return together(sampler=sampler, plan=TextSampler(), answer=TextSampler(), sam=SamConfig(),
                    grounding=GroundingConfig(), components=ComponentsConfig(), judge=judge, objective=objective)


def _of_experiment(recipe: Recipe | None) -> tuple[list[str], tuple[str, ...]]:
    """The words that an experiment would type, and some of its prompts."""
    if recipe is None or recipe.rewards is None:
        return [], ()
    with tempfile.TemporaryDirectory() as folder:
        stages = recipe.rewards(epath.Path(folder))
        examples = _examples(stages.get("generate", {}))
    words: list[str] = []
    for stage, taken in _TAKEN.items():
        for name, value in stages.get(stage, {}).items():
            if name in taken or name.partition(".")[0] in _SETTINGS:
                words += words_of(name, value)
    return words, examples


def _examples(generate: Mapping[str, Any]) -> tuple[str, ...]:
    """One prompt of each category, as many as there is room for."""
    if "prompts" not in generate:
        return ()
    path = epath.Path(generate["prompts"])
    form = find_format(generate.get("prompt_format", AUTO), None)
    rows = read_prompt_file(path, form, "page").rows
    return tuple(_first_of_each((row.category, row.prompt) for row in rows))[:_NUM_EXAMPLES]


def _first_of_each(pairs: Iterable[tuple[str | None, str]]) -> Iterable[str]:
    first: dict[str | None, str] = {}
    for category, prompt in pairs:
        first.setdefault(category, prompt)
    return first.values()
