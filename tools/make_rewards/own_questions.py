"""Judging by yes/no questions: where those of a prompt come from, and asking them about every picture of a unit."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from srum_jax.errors import BadInput
from srum_jax.inference.requests import RequestError
from srum_jax.judges.dialogue import run_dialogues
from srum_jax.judges.protocol import Judge
from srum_jax.judges.yes_or_no import YesOrNo
from srum_jax.rewards.judgement.breakdown import OF_REGIONS, YesNoQuestion, as_json, break_down, checked_questions
from srum_jax.rewards.judgement.judge_record import Subject
from srum_jax.rewards.judgement.judge_templates import JudgeTemplates, corners_told
from srum_jax.rewards.judgement.question_record import objects_of, question_record
from srum_jax.rewards.judgement.settings import JudgeSettings
from srum_jax.rewards.proposals import Proposal
from srum_jax.stages.folder import DamagedError
from srum_jax.storage.atomic_file import write_json
from srum_jax.storage.reading import json_lines

BrokenDown = Mapping[str, Any]  # as `break_down` returns it


class AskedOfModel:
    """Questions that the model breaks prompts down into, each kept in a file of the run's folder as it comes.

    Processes that meet the same prompt ask the same and write the same.
    """

    def __init__(self, folder: epath.Path, judge: Judge, settings: JudgeSettings, templates: JudgeTemplates):
        self._folder, self._judge, self._settings, self._templates = folder, judge, settings, templates

    def of(self, prompts: Sequence[str]) -> dict[str, BrokenDown]:
        """What each prompt is broken down into.

        Raises:
          DamagedError: a file is not as it was written.
        """
        found = {prompt: read for prompt in prompts if (read := self._read(prompt)) is not None}
        missing = [prompt for prompt in dict.fromkeys(prompts) if prompt not in found]
        dialogues = [(None, break_down(prompt, self._settings, self._templates)) for prompt in missing]
        for prompt, answer in zip(missing, run_dialogues(dialogues, self._judge), strict=True):
            path = self._path(prompt)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, answer)
            found[prompt] = answer
        return found

    def _path(self, prompt: str) -> epath.Path:
        name = hashlib.sha256(prompt.encode()).hexdigest()
        return self._folder / name[:2] / f"{name}.json"

    def _read(self, prompt: str) -> BrokenDown | None:
        path = self._path(prompt)
        if not path.exists():
            return None
        try:
            entry = json.loads(path.read_bytes())
            if not isinstance(entry, dict) or entry.get("prompt") != prompt:
                raise ValueError("field 'prompt': expected the prompt that the file is named after")
            checked_questions(entry.get("questions"))
            for name, kind in (("attempts", int), ("calls", list), ("problems", dict)):
                if type(entry.get(name)) is not kind:
                    raise ValueError(f"field '{name}': expected {kind.__name__}, found {entry.get(name)!r}")
        except ValueError as error:
            raise DamagedError(f"{path}: {error}; it was changed after it was written. Remove it to have the prompt "
                               "broken down again.") from error
        return entry


class GivenQuestions:
    """Questions from a file: for models that cannot break a prompt down, or to choose them yourself."""

    def __init__(self, path: str, prompts: Sequence[str]):
        """Reads lines `{"prompt", "questions": [{"kind", "object", "text"}]}`.

        Raises:
          BadInput: a line is not of this form; or a prompt has no questions.
        """
        self._entries: dict[str, BrokenDown] = {}
        for number, line in json_lines(epath.Path(path)):
            where = f"--questions {path}:{number}"
            if not isinstance(line, dict) or not isinstance(line.get("prompt"), str):
                raise BadInput(f"{where}: field 'prompt': expected a text, found nothing of the kind.")
            try:
                questions = checked_questions(line.get("questions"))
            except ValueError as error:
                raise BadInput(f"{where}: {error}.") from error
            if not questions:
                raise BadInput(f"{where}: field 'questions': expected at least one, found none.")
            if line["prompt"] in self._entries:
                raise BadInput(f"{where}: field 'prompt': {line['prompt']!r} occurs twice.")
            self._entries[line["prompt"]] = {"questions": as_json(questions), "attempts": 0, "calls": [],
                                             "problems": {}}
        for prompt in prompts:
            if prompt not in self._entries:
                raise BadInput(f"--questions {path}: expected questions for every prompt of the run, found none for "
                               f"{prompt!r}.")

    def of(self, prompts: Sequence[str]) -> dict[str, BrokenDown]:
        """As `AskedOfModel.of`."""
        return {prompt: self._entries[prompt] for prompt in prompts}


def judge_by_questions(
    shown: Sequence[tuple[Subject, np.ndarray]],
    questions_of: Callable[[Sequence[str]], Mapping[str, BrokenDown]],
    yes_or_no: YesOrNo,
    settings: JudgeSettings,
    templates: JudgeTemplates,
) -> list[dict[str, Any]]:
    """The records of images whose questions are asked side by side.

    Args:
      shown: images with their pixels, uint8 [H, W, 3].
      questions_of: breaks prompts down.
      yes_or_no: answers.
      settings: of the run.
      templates: how a question is put, about a picture and about a region.

    Raises:
      BadInput: the model cannot be asked one of the questions.
    """
    broken_down = questions_of([subject.prompt for subject, _ in shown])
    asked, about = [], []  # what the model is asked; and the image, the region and the questions that it answers
    for number, (subject, pixels) in enumerate(shown):
        questions = checked_questions(broken_down[subject.prompt]["questions"])
        for question in questions:
            asked.append((pixels, templates["question"].fill(question=question.text, object=question.object),
                          templates["question"]))
            about.append((number, None, question))
        for proposal in subject.proposals[: settings.max_regions] if objects_of(questions) else ():
            for question in questions:
                if question.kind in OF_REGIONS and question.object in objects_of(questions):
                    asked.append((pixels, _about_region(question, proposal, subject, settings, templates),
                                  templates["region_question"]))
                    about.append((number, proposal, question))
    try:
        probabilities = _each_once(yes_or_no, asked)
    except RequestError as error:
        raise BadInput(f"--mode questions: {error}") from error
    answered = [[] for _ in shown]
    regions = [{proposal: [] for proposal in subject.proposals[: settings.max_regions]} for subject, _ in shown]
    for (number, proposal, question), probability in zip(about, probabilities, strict=True):
        (answered[number] if proposal is None else regions[number][proposal]).append((question, probability))
    return [question_record(subject, broken_down[subject.prompt], answered[number], list(regions[number].items()),
                            settings) for number, (subject, _) in enumerate(shown)]


def _about_region(
    question: YesNoQuestion, proposal: Proposal, subject: Subject, settings: JudgeSettings, templates: JudgeTemplates
) -> str:
    size, box = (subject.width, subject.height), proposal.box
    if subject.frame is not None:
        box, size = box.scaled(size, subject.frame), subject.frame
    corners = corners_told(box, size, settings.normalised_boxes)
    return templates["region_question"].fill(box=" ".join(map(str, corners)), question=question.text,
                                             object=question.object)


def _each_once(yes_or_no: YesOrNo, asked) -> list[float]:
    """Templates may leave out what tells two questions apart; the same about the same picture is asked once."""
    places: dict[tuple, int] = {}
    once = []
    for pixels, text, template in asked:
        key = id(pixels), text, template.sha256
        if key not in places:
            places[key] = len(once)
            once.append((pixels, text, template))
    found = yes_or_no.probabilities(once)
    return [found[places[id(pixels), text, template.sha256]] for pixels, text, template in asked]
