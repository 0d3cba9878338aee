"""GenEval: objects, counts, colours and places, found by a detector (spec: evaluation, section 4).

The official scorer is not part of this package; it reads our folders unchanged, and `--judge results:FILE` reads what
it writes. The protocol with a detector of transformers has a name of its own: its numbers are not the official ones.
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from srum_jax.errors import BadInput
from srum_jax.evaluation.benchmark import (
    OVERALL,
    Benchmark,
    Conversation,
    Drawing,
    EvalItem,
    ItemScore,
    JudgeReply,
    Term,
    Total,
    equal_weights,
    last_reply,
)
from srum_jax.evaluation.entries import line_entries
from srum_jax.generation.records import GenerationRecord

COUNTS = {"single_object": 80, "two_object": 99, "counting": 80, "colors": 94, "position": 100, "color_attr": 100}
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
RELATIONS = ("left of", "right of", "above", "below")
OFFICIAL, DETECTOR = "geneval-official", "srum_jax-detector-1"
DETECT = "detect"  # the call: its text is the metadata of the prompt
MIN_SCORE, MIN_SCORE_COUNTING = 0.3, 0.9
MAX_OBJECTS = 16  # of a class
_MIN_OFFSET = 0.1  # of the sum of both sizes
_MIN_DIRECTION = 0.5  # component of the unit vector


@dataclasses.dataclass(frozen=True)
class Detection:
    """One object that was found."""

    box: tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels
    score: float  # [0, 1]
    color: str | None = None  # the nearest of COLORS, where it was asked for


class GenEval(Benchmark):
    """See `Benchmark`."""

    name: ClassVar[str] = "geneval"
    protocols: ClassVar[Mapping[str, str | None]] = {OFFICIAL: None, DETECTOR: None}
    drawing: ClassVar[Drawing] = Drawing(images_per_prompt=4, settings={"sampler.guidance.interval": "0.0,1.0"})
    images_per_item: ClassVar[int] = 4
    official_counts: ClassVar[Mapping[str, int]] = COUNTS

    def items(self, files: Mapping[str, bytes]) -> tuple[EvalItem, ...]:
        """Of `evaluation_metadata.jsonl`; the index of a line is its id."""
        if len(files) != 1:
            raise BadInput(f"--prompts: expected evaluation_metadata.jsonl alone, found {sorted(files) or 'nothing'}.")
        (name, data), = files.items()
        entries = line_entries(name, data, {"tag": str, "include": list, "prompt": str})
        for number, entry in enumerate(entries, start=1):
            _check_entry(f"{name}:{number}", entry)
        return tuple(EvalItem(f"{index:05d}", entry["tag"], entry["prompt"], {"metadata": entry})
                     for index, entry in enumerate(entries))

    def image(self, item: EvalItem, number: int) -> str:
        """`<index>/samples/<number>.png`, five and four digits."""
        return f"{item.id}/samples/{number:04d}.png"

    def beside_images(
        self, items: Sequence[EvalItem], records: Mapping[tuple[str, int], GenerationRecord]
    ) -> Mapping[str, bytes]:
        """`metadata.jsonl` of each prompt."""
        return {f"{item.id}/metadata.jsonl": json.dumps(item.extra["metadata"]).encode() + b"\n" for item in items}

    def calls(self, item: EvalItem, number: int) -> Conversation:
        """What the prompt asks for goes to the detector, or to the official results."""
        yield from self.ask(DETECT, json.dumps(item.extra["metadata"]), item, number)

    def read(self, item: EvalItem, replies: Sequence[Sequence[JudgeReply]]) -> ItemScore:
        """The share of correct images, and whether there is one."""
        correct = []
        for number, found in enumerate(replies):
            try:
                reply = json.loads(last_reply(found, DETECT))
                if self.protocol == OFFICIAL:
                    if reply["prompt"] != item.prompt or not isinstance(reply["correct"], bool):
                        raise ValueError(f"the result is of {reply['prompt']!r}")
                    correct.append(reply["correct"])
                else:
                    objects = {name: [Detection(tuple(one["box"]), one["score"], one.get("color")) for one in ones]
                               for name, ones in reply["objects"].items()}
                    correct.append(is_correct(item.extra["metadata"], objects))
            except (ValueError, KeyError, TypeError) as error:
                return ItemScore(item.id, item.category, {}, True, f"image {number}: no result ({error})")
        return ItemScore(item.id, item.category, {"correct": sum(correct) / len(correct), "any": float(any(correct))})

    def totals(self, items: Sequence[EvalItem]) -> tuple[Total, ...]:
        """Six tasks, shares of correct images and of prompts with at least one, and the mean of the tasks."""
        shares = {tag: sum(item.category == tag for item in items) / len(items) for tag in COUNTS}
        return (*(Total(tag, (Term(tag, "correct"),)) for tag in COUNTS),
                Total("correct_images", tuple(Term(tag, "correct", share) for tag, share in shares.items())),
                Total("any_correct_prompts", tuple(Term(tag, "any", share) for tag, share in shares.items())),
                Total(OVERALL, equal_weights(tuple(COUNTS), "correct")))

    def tables(self, items, scores, replies, results) -> Mapping[str, bytes]:
        """The authors' table of one line, once the run is complete."""
        if not results["complete"]:
            return {}
        means = [results["scores"][tag]["mean"] for tag in COUNTS] + [results["scores"][OVERALL]]
        return {"table.txt": b"SO TO CT CL POS ATTR ALL\n" + " ".join(f"{m:.2f}" for m in means).encode() + b"\n"}


def is_correct(metadata: Mapping[str, Any], objects: Mapping[str, Sequence[Detection]]) -> bool:
    """The official rules, of what a detector has found in one image.

    Args:
      metadata: what the prompt asks for.
      objects: found, by class, of any score.
    """
    least = MIN_SCORE_COUNTING if metadata["tag"] == "counting" else MIN_SCORE

    def of(name: str) -> list[Detection]:
        kept = sorted((one for one in objects.get(name, ()) if one.score > least), key=lambda one: -one.score)
        return kept[:MAX_OBJECTS]

    matched: list[list[Detection]] = []
    for wanted in metadata["include"]:
        found, count = of(wanted["class"]), wanted["count"]
        if "color" in wanted:
            found = [one for one in found if one.color == wanted["color"]]
        if len(found) < count:
            return False
        best = found[:count]
        if "position" in wanted:
            relation, other = wanted["position"]
            if not all(relation in relations_between(one.box, target.box) for one in best for target in matched[other]):
                return False
        matched.append(best)
    return not any(len(of(wanted["class"])) >= wanted["count"] for wanted in metadata.get("exclude", ()))


def relations_between(box: Sequence[float], other: Sequence[float]) -> set[str]:
    """How one box lies to another; empty where their centres are too near (0.1 of the sum of their sizes)."""
    offsets, beyond = [], []
    for axis in (0, 1):
        offset = (box[axis] + box[axis + 2] - other[axis] - other[axis + 2]) / 2
        slack = _MIN_OFFSET * (abs(box[axis + 2] - box[axis]) + abs(other[axis + 2] - other[axis]))
        offsets.append(offset)
        beyond.append(math.copysign(max(abs(offset) - slack, 0.0), offset))
    if not any(beyond):
        return set()
    x, y = (part / math.hypot(*offsets) for part in beyond)
    directions = {"left of": -x, "right of": x, "above": -y, "below": y}
    return {name for name, component in directions.items() if component > _MIN_DIRECTION}


def _check_entry(where: str, entry: Mapping[str, Any]) -> None:
    if entry["tag"] not in COUNTS:
        raise BadInput(f"{where}: field 'tag': expected one of {', '.join(COUNTS)}; found {entry['tag']!r}.")
    for group in ("include", "exclude"):
        for number, wanted in enumerate(entry.get(group, ())):
            place = f"{where}: field '{group}[{number}]"
            if not isinstance(wanted, dict) or not isinstance(wanted.get("class"), str):
                raise BadInput(f"{place}.class': expected the name of a class, found {wanted!r}.")
            if type(wanted.get("count")) is not int or wanted["count"] < 1:
                raise BadInput(f"{place}.count': expected a positive number, found {wanted.get('count')!r}.")
            if "color" in wanted and wanted["color"] not in COLORS:
                raise BadInput(f"{place}.color': expected one of {', '.join(COLORS)}; found {wanted['color']!r}.")
            position = wanted.get("position", [RELATIONS[0], 0])
            if (not isinstance(position, list) or len(position) != 2 or position[0] not in RELATIONS or
                    type(position[1]) is not int or not 0 <= position[1] < max(number, 1)):
                raise BadInput(f"{place}.position': expected a relation and the number of an earlier entry, found "
                               f"{position!r}.")
