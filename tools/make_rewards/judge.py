"""Judges every generated image: its regions one by one, and its layout as a whole.

The judge is the model itself, any vision-language model of transformers, a file of scores, or what `likelihood` found.
Resumable, and shared by several processes like `segment`. The paper's preset verifies regions against the prompt,
penalises severe distortions and repairs unreadable replies; --preset official does what the authors' code does. With
--mode questions the model itself breaks every prompt into yes/no questions, and the probability of yes is the score.
With --global likelihood the judge scores regions alone, and the whole picture gets what `likelihood` found.
"""

import argparse
import collections
import dataclasses
import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from srum_jax.command_line import in_range, user_path
from srum_jax.data.schema import is_unicode
from srum_jax.errors import BadInput
from srum_jax.generation.records import GenerationRecord
from srum_jax.inference.templates import Templates
from srum_jax.judges.dialogue import run_dialogues
from srum_jax.judges.given_scores import GivenScores
from srum_jax.judges.own_model import ModelJudge
from srum_jax.judges.transformers import HuggingFaceJudge
from srum_jax.judges.yes_or_no import YesOrNo
from srum_jax.model_arguments import add_model_arguments
from srum_jax.overrides import add_set_argument, apply_overrides, together
from srum_jax.rewards.boxes import Box
from srum_jax.rewards.judgement.judge_record import Subject, judge_record
from srum_jax.rewards.judgement.judge_templates import JudgeTemplates
from srum_jax.rewards.judgement.settings import PRESETS, JudgeSettings, Mode, NeutralBand
from srum_jax.rewards.proposals import Proposal
from srum_jax.stages import JUDGE, LIKELIHOOD, SEGMENT, STAGE_VERSION
from srum_jax.storage.atomic_file import file_sha256
from srum_jax.storage.reading import read_text
from srum_jax.weights.fingerprint import directory_fingerprint
from tools.make_rewards import own_model
from tools.make_rewards.errors import Reject
from tools.make_rewards.likelihood import scores_by_likelihood
from tools.make_rewards.own_questions import AskedOfModel, GivenQuestions, judge_by_questions
from tools.make_rewards.run_folder import RunFolder, StageUnit, rejected
from tools.make_rewards.stage_run import add_stage_arguments, open_run, run_stage

SUMMARY = "score regions and layout of every image"

JudgeUnit = Callable[[StageUnit], list[dict[str, Any]]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("--out", type=user_path, required=True, metavar="DIR",
                        help="the folder of `generate` and `segment`")
    parser.add_argument("--judge", default="model", metavar="WHO",
                        help="model: the checkpoint itself (default); transformers:DIR: a vision-language model in "
                             "PyTorch; jsonl:FILE: given scores; likelihood: whole pictures, by what `likelihood` "
                             "found")
    parser.add_argument("--preset", choices=tuple(PRESETS), default="paper",
                        help="where the settings below start (default: %(default)s)")
    parser.add_argument("--mode", choices=tuple(Mode), help="what is scored, and how (default: as the settings say)")
    parser.add_argument("--global", dest="global_by", choices=("judge", LIKELIHOOD), default="judge",
                        help="who scores the whole picture: the judge (default), or what `likelihood` found")
    group = parser.add_argument_group("judgement")
    group.add_argument("--questions", type=user_path, metavar="FILE",
                       help="of --mode questions: JSON lines with those of every prompt, instead of the model's")
    group.add_argument("--judge-templates", type=user_path, metavar="FILE", help="questions in your own words, TOML")
    group.add_argument("--synonyms", type=user_path, metavar="FILE",
                       help="groups of words that mean the same: a JSON list of lists")
    group.add_argument("--batch-size", type=in_range(int, 1), default=16, metavar="N",
                       help="calls answered together (default: 16)")
    group.add_argument("--keep-raw", action=argparse.BooleanOptionalAction, default=True,
                       help="whether records keep the whole replies (default: they do)")
    add_model_arguments(parser, required=False)  # only the model itself needs it
    add_stage_arguments(parser)
    add_set_argument(parser, together(judge=PRESETS["paper"]))


def settings_of(arguments: argparse.Namespace) -> JudgeSettings:
    """What --preset and --set say.

    Raises:
      OverrideError: a setting that there is not, or a value that it cannot have.
      BadInput: questions are asked of another judge, or given and not asked.
    """
    settings = apply_overrides(together(judge=PRESETS[arguments.preset]), arguments.set).judge
    if arguments.mode is not None:
        settings = dataclasses.replace(settings, mode=Mode(arguments.mode))
    if settings.mode is Mode.QUESTIONS and arguments.judge != "model":
        raise BadInput(f"--judge {arguments.judge}: expected model with --mode questions, which compares log "
                       "probabilities.")
    if arguments.questions is not None and settings.mode is not Mode.QUESTIONS:
        raise BadInput("--questions: expected --mode questions with it.")
    if arguments.global_by == LIKELIHOOD:
        if arguments.judge == LIKELIHOOD or settings.mode is Mode.SAMPLE:
            raise BadInput(f"--global {LIKELIHOOD}: expected a judge of regions beside it, found "
                           f"{'--judge ' + LIKELIHOOD if arguments.judge == LIKELIHOOD else '--mode sample'}.")
        settings = dataclasses.replace(settings, use_global=False)
    if arguments.judge == LIKELIHOOD:  # it scores whole pictures, and knows nothing of arrangements
        return dataclasses.replace(settings, mode=Mode.SAMPLE, neutral_band=NeutralBand.JUDGE)
    if settings.mode is Mode.QUESTIONS:  # they ask for everything, not for the arrangement
        return dataclasses.replace(settings, neutral_band=NeutralBand.JUDGE)
    return settings


def run(arguments: argparse.Namespace) -> None:
    """The subcommand."""
    folder = open_run(arguments)
    settings = settings_of(arguments)
    templates = JudgeTemplates.read(arguments.judge_templates)
    think = Templates.read(arguments.templates)
    synonyms = None if arguments.synonyms is None else _read_synonyms(arguments.synonyms)
    kind, _, source = arguments.judge.partition(":")
    source = user_path(source)
    begun_with = {
        "stage_version": STAGE_VERSION, "judge": _identity(kind, source, arguments), "preset": arguments.preset,
        "global_by": arguments.global_by,
        "settings": dataclasses.asdict(settings),
        "templates": templates.checksums() | {"think_understanding": think.checksums()["think_understanding"]},
        "synonyms": synonyms, "batch_size": arguments.batch_size, "keep_raw": arguments.keep_raw,
    }
    given = None
    if settings.mode is Mode.QUESTIONS:
        own_model.require_scorer(arguments)
        if arguments.questions is not None:
            given = GivenQuestions(arguments.questions, [prompt.prompt for prompt in folder.prompts.values()])
            begun_with["questions_sha256"] = file_sha256(arguments.questions)

    def begin() -> JudgeUnit:
        judge_unit = own_model.watched(
            _judge_unit(kind, source, arguments, folder, settings, templates, think, synonyms, given),
            f"{arguments.judge} ({arguments.checkpoint or arguments.judge})", arguments.dtype)
        return judge_unit if arguments.keep_raw else lambda unit: [_without_texts(line) for line in judge_unit(unit)]

    run_stage(JUDGE, folder, begun_with, begin, _summary, arguments)


def _judge_unit(kind, source, arguments, folder, settings, templates, think, synonyms, questions) -> JudgeUnit:
    """What makes the records of a unit."""
    frame = None
    likelihoods = scores_by_likelihood(folder) if arguments.global_by == LIKELIHOOD else {}
    if kind == LIKELIHOOD:
        given, judge = GivenScores(scores_by_likelihood(folder)), None
    elif kind == "jsonl":
        given = GivenScores.read(source)
        judge = None
    elif kind == "transformers":
        judge = HuggingFaceJudge(source, think.think_understanding)
    else:
        pipeline = own_model.answerer(arguments, think)
        judge = ModelJudge(pipeline, arguments.batch_size)
        frame = own_model.box_frame(arguments)
    if settings.mode is Mode.QUESTIONS:
        yes_or_no = YesOrNo(pipeline.scorer, arguments.batch_size)
        questions = questions or AskedOfModel(folder.root / "questions", judge, settings, templates)

    def judge_unit(unit: StageUnit) -> list[dict[str, Any]]:
        lines: dict[int, dict[str, Any]] = {}
        dialogues: dict[int, tuple] = {}
        shown: dict[int, tuple] = {}
        generated = folder.generated(unit)
        segmented = folder.lines(SEGMENT, unit) if settings.mode is not Mode.SAMPLE else [{}] * len(generated)
        for number, (generation, segmentation) in enumerate(zip(generated, segmented, strict=True)):
            if "rejected" in segmentation:
                lines[number] = segmentation
                continue
            try:
                _, pixels = folder.read_image(generation)
            except Reject as reject:
                lines[number] = rejected(generation.record_id, reject)
                continue
            subject = _subject(folder, generation, segmentation, synonyms, frame)
            if judge is None:
                lines[number] = given.judge(subject, settings)
            elif settings.mode is Mode.QUESTIONS:
                shown[number] = (subject, pixels)
            else:
                dialogues[number] = (pixels, judge_record(subject, settings, templates))
        if shown:
            lines |= dict(zip(shown, judge_by_questions(list(shown.values()), questions.of, yes_or_no, settings,
                                                        templates), strict=True))
        if dialogues:
            lines |= dict(zip(dialogues, run_dialogues(list(dialogues.values()), judge), strict=True))
        return [_with_global(lines[number], likelihoods) | {"stage_version": STAGE_VERSION}
                for number in range(len(generated))]

    return judge_unit


def _with_global(line: dict[str, Any], likelihoods: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A judgement of regions with the score of the whole picture that `likelihood` found, if it did."""
    found = likelihoods.get(line["record_id"])
    if found is None or "rejected" in line:
        return line
    score, reason = found["global"]["score"], found["global"]["reason"]
    layout = {"score_raw": score, "score": score, "reason": reason, "flags": []}
    return line | {"global": layout, "global_status": "ok"}


def _subject(
    folder: RunFolder,
    generation: GenerationRecord,
    segmentation: dict[str, Any],
    synonyms: Sequence[Sequence[str]] | None,
    frame: Callable[[int, int], tuple[int, int]] | None,
) -> Subject:
    prompt = folder.prompt(generation)
    proposals = [
        Proposal(Box(*region["box"]), region["area"], region["predicted_iou"], region["stability"])
        for region in segmentation.get("regions", ())
    ]
    return Subject(generation.record_id, prompt.prompt, generation.width, generation.height, prompt.keywords,
                   prompt.has_directive, proposals, synonyms,
                   None if frame is None else frame(generation.height, generation.width)[::-1])


def _identity(kind: str, source: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Who judges, without paths."""
    if kind == "model" and not source:
        return {"kind": kind, **own_model.identity(arguments, "choose --judge transformers:DIR or jsonl:FILE")}
    if kind == LIKELIHOOD and not source:
        return {"kind": kind}  # the stage has settings of its own
    if kind == "transformers" and epath.Path(source).is_dir():
        try:
            return {"kind": kind, "checkpoint_sha256": directory_fingerprint(source)}
        except BadInput as error:
            raise BadInput(f"--judge {arguments.judge}: {error}") from error
    if kind == "jsonl" and epath.Path(source).exists() and not epath.Path(source).is_dir():
        return {"kind": kind, "sha256": hashlib.sha256(epath.Path(source).read_bytes()).hexdigest()}
    raise BadInput(f"--judge {arguments.judge}: expected model, likelihood, transformers:DIR with an existing "
                   "directory, or jsonl:FILE with an existing file.")


def _read_synonyms(path: str) -> list[list[str]]:
    try:
        groups = json.loads(read_text(path))
    except ValueError as error:
        raise BadInput(f"--synonyms {path}: cannot be read as JSON ({error}).") from error
    if not isinstance(groups, list) or not all(
        isinstance(group, list) and all(isinstance(word, str) for word in group) for group in groups
    ):
        raise BadInput(f"--synonyms {path}: expected a list of lists of words.")
    for word in itertools.chain(*groups):
        if not is_unicode(word):
            raise BadInput(f"--synonyms {path}: expected valid Unicode, found {word!a}.")
    return groups


def _without_texts(record: dict[str, Any]) -> dict[str, Any]:
    if "calls" not in record:
        return record
    calls = [{name: value for name, value in call.items() if name != "text"} for call in record["calls"]]
    return {**record, "calls": calls}


def _summary(records: Iterator[dict[str, Any]]) -> dict[str, Any]:
    counts: dict[str, collections.Counter] = {
        name: collections.Counter() for name in ("rejected", "local_status", "global_status", "problems", "verdicts")
    }
    images = regions = clamped = 0
    for record in records:
        images += 1
        if "rejected" in record:
            counts["rejected"][record["rejected"]["reason"]] += 1
            continue
        regions += len(record["regions"])
        for name in ("local_status", "global_status"):
            counts[name][record[name]] += 1
        counts["problems"].update(record["problems"])
        counts["verdicts"].update(str(region["verdict"]) for region in record["regions"])
        clamped += "clamped" in (record["global"] or {}).get("flags", ())
    return {"images": images, "regions": regions, "global_scores_clamped": clamped,
            **{name: dict(sorted(counter.items())) for name, counter in counts.items()}}
