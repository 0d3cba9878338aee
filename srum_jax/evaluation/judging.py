"""The judge stage: every image of every item is asked about, and what was replied is kept."""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from tqdm import tqdm

from srum_jax.data.errors import ImageError
from srum_jax.data.image_transform import decode_image, to_rgb
from srum_jax.evaluation.benchmark import Benchmark, Conversation, EvalItem, JudgeReply, subject_id
from srum_jax.evaluation.folder import EvaluationFolder
from srum_jax.judges.dialogue import run_dialogues
from srum_jax.judges.protocol import Judge
from srum_jax.rewards.judgement.calls import Call, Reply
from srum_jax.stages.folder import DamagedError, by_shard
from srum_jax.stages.units import units_to_do
from srum_jax.storage.atomic_file import as_json_lines, write_bytes
from srum_jax.storage.reading import is_hidden, why_absent

_LOGGER = logging.getLogger(__name__)
_NO_PICTURE = np.zeros((1, 1, 3), np.uint8)
Line = dict[str, Any]  # of a chunk: an image and the calls about it, or why there are none


@dataclasses.dataclass(frozen=True)
class JudgeUnit:
    """Items that are judged and committed together."""

    number: int
    items: tuple[EvalItem, ...]
    shard: int = 0

    @property
    def name(self) -> str:
        """Sorts by the first item."""
        return f"{self.number:06d}"


def judge_units(items: Sequence[EvalItem], batch_size: int) -> list[JudgeUnit]:
    """The units of a run: a function of the items alone."""
    return [JudgeUnit(first // batch_size, tuple(items[first : first + batch_size]))
            for first in range(0, len(items), batch_size)]


def judge_items(
    benchmark: Benchmark,
    units: Sequence[JudgeUnit],
    folder: EvaluationFolder,
    images: epath.Path | None,
    judge: Judge,
    *,
    repair: bool = False,
) -> int:
    """Asks about every image that was not asked about; returns how many images are missing or unreadable.

    An image that was missing when its unit was judged, and is there now, has the unit judged again.

    Args:
      benchmark: whose questions are asked.
      units: of the whole run.
      folder: of the evaluation.
      images: their folder; None: the judge does not look at them.
      judge: who is asked.
      repair: whether to judge again what was changed since: an image, or what was written of it.

    Raises:
      DamagedError: an image is not the one that was judged, and `repair` is false.
      Failure: the judge cannot answer; what was committed is intact.
    """
    stage = folder.judge
    share = stage.processes.share(units)
    missing = units_to_do(share, stage, lambda unit: _is_intact(unit, benchmark, folder, images), repair=repair)
    for unit in tqdm(missing, unit="unit", disable=None):
        lines, conversations = {}, {}
        for place, (item, number) in enumerate(_images_of(unit, benchmark)):
            name = benchmark.image(item, number)
            line = {"record_id": subject_id(item, number), "item_id": item.id, "image": number, "file": name}
            pixels = _NO_PICTURE
            if images is not None:
                try:
                    pixels, line["sha256"] = read_image(images / name)
                except ImageError as error:
                    lines[place] = line | {"missing": f"{name}: {error}", "calls": []}
                    continue
            lines[place] = line
            conversations[place] = pixels, _recorded(benchmark.calls(item, number))
        for place, calls in zip(conversations, run_dialogues(list(conversations.values()), judge), strict=True):
            lines[place]["calls"] = calls
        stage.commit(unit, [lines[place] for place in sorted(lines)])
    absent = sum("missing" in line for unit in share for line in stage.lines(unit, check_line))
    if stage.finish(by_shard(units), lambda: _summary(units, folder)) is not None:
        write_replies(benchmark, units, folder)
    return absent


def read_lines(units: Sequence[JudgeUnit], folder: EvaluationFolder) -> Iterator[Line]:
    """What was judged of all units so far.

    Raises:
      DamagedError: naming the file and line.
    """
    committed = folder.judge.committed()
    for unit in units:
        if folder.judge.chunk(unit) in committed:
            yield from folder.judge.lines(unit, check_line)


def replies_of(line: Line) -> list[JudgeReply]:
    """The replies that a line holds."""
    return [JudgeReply(call["call"], call["attempt"], call["text"], call["finish_reason"]) for call in line["calls"]]


def check_line(line: Any) -> None:
    """Raises ValueError if something is not a line of this stage."""
    if not isinstance(line, dict) or not isinstance(line.get("record_id"), str):
        raise ValueError("field 'record_id': expected a text")
    if not isinstance(line.get("item_id"), str) or type(line.get("image")) is not int:
        raise ValueError("fields 'item_id', 'image': expected a text and a number")
    if not isinstance(line.get("calls"), list):
        raise ValueError("field 'calls': expected a list")
    for call in line["calls"]:
        if not isinstance(call, dict) or not isinstance(call.get("text"), str) or "finish_reason" not in call or \
                not isinstance(call.get("call"), str) or type(call.get("attempt")) is not int:
            raise ValueError("field 'calls': expected call, attempt, text and finish_reason of each")


def write_replies(benchmark: Benchmark, units: Sequence[JudgeUnit], folder: EvaluationFolder) -> None:
    """Writes `replies.jsonl`: one line a call, as `--judge replay:FILE` reads them."""
    judge = json.loads(folder.judge.settings.read_bytes())["judge"]
    lines = [
        {"benchmark": benchmark.name, "item_id": line["item_id"], "image": line["image"], **call,
         "judge": {"id": judge["id"], "revision": judge["revision"]}}
        for line in read_lines(units, folder) for call in line["calls"]]
    write_bytes(folder.replies, as_json_lines(lines))


def extra_images(benchmark: Benchmark, items: Sequence[EvalItem], images: epath.Path) -> int:
    """How many pictures lie in a folder that belong to no item; they are ignored."""
    expected = {benchmark.image(item, number) for item in items for number in range(benchmark.images_per_item)}
    folders = {name.rpartition("/")[0] for name in expected}
    return sum(
        path.suffix == ".png" and not is_hidden(path.name) and f"{folder}/{path.name}".lstrip("/") not in expected
        for folder in folders if (images / folder).exists() for path in (images / folder).iterdir())


def _images_of(unit: JudgeUnit, benchmark: Benchmark) -> Iterator[tuple[EvalItem, int]]:
    for item in unit.items:
        for number in range(benchmark.images_per_item):
            yield item, number


def read_image(path: epath.Path) -> tuple[np.ndarray, str]:
    """Pixels uint8 [H, W, 3], and the SHA-256 of the file; ImageError if there are none."""
    try:
        encoded = path.read_bytes()
    except OSError as error:
        raise ImageError(why_absent(path) if not path.exists() else str(error)) from error
    return np.asarray(to_rgb(decode_image(encoded))), hashlib.sha256(encoded).hexdigest()


def _is_intact(unit: JudgeUnit, benchmark: Benchmark, folder: EvaluationFolder, images: epath.Path | None) -> bool:
    expected = [subject_id(item, number) for item, number in _images_of(unit, benchmark)]
    for line in folder.judge.lines(unit, check_line, expected):
        if images is None:
            continue
        path = images / line["file"]
        if "missing" in line:
            try:
                read_image(path)
            except ImageError:
                continue
            return False
        if path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() != line["sha256"]:
            raise DamagedError(f"{path}: expected the image that was judged, SHA-256 {line['sha256'][:12]}..., found "
                               "another; `judge --repair` judges it again.")
    return True


def _recorded(conversation: Conversation) -> Generator[Call, Reply, list[dict[str, Any]]]:
    """Passes calls and replies on; returns what is stored of them."""
    stored = []
    try:
        call = next(conversation)
        while True:
            reply = yield call
            finish = ("stop" if reply.finished else "length") if reply.healthy else "non_finite"
            stored.append({"call": call.kind, "attempt": call.attempt, "text": reply.text, "finish_reason": finish})
            call = conversation.send(reply)
    except StopIteration:
        return stored


def _summary(units: Sequence[JudgeUnit], folder: EvaluationFolder) -> Mapping[str, Any]:
    lines = list(read_lines(units, folder))
    return {"images": len(lines), "missing": sum("missing" in line for line in lines),
            "calls": sum(len(line["calls"]) for line in lines)}
