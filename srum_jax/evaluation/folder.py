"""The folder of an evaluation.

    evaluation.json  inputs/      which benchmark, under which protocol; its files
    model.json                    whose images these are
    run.json  generate/           as `srum_jax.generate` leaves them; generate/images/ is in the official layout
    run-judge.json  judge/        who judged, and the replies by unit
    judge_template.txt            the question
    replies.jsonl                 the same, one line a call: what `--judge replay:FILE` reads
    results.json  scores.jsonl    the numbers, and those of each item
    tables/                       in the form of the official scorer
"""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from srum_jax.errors import BadInput
from srum_jax.evaluation.benchmark import Benchmark, EvalItem
from srum_jax.stages import GENERATE, JUDGE, noted
from srum_jax.stages.folder import StageFolder, create_once
from srum_jax.stages.processes import ALONE, Processes
from srum_jax.storage import object_store
from srum_jax.storage.reading import is_hidden, why_absent

GENERATE_SHARDS = 1


@dataclasses.dataclass(frozen=True)
class Part:
    """Which items of each category are worked on: every `step`-th from `start` up to before `end`."""

    start: int = 0
    end: int | None = None
    step: int = 1

    def of(self, items: Sequence[EvalItem]) -> tuple[EvalItem, ...]:
        """The items of the part, in their order."""
        by_category: dict[str, list[EvalItem]] = {}
        for item in items:
            by_category.setdefault(item.category, []).append(item)
        chosen = {item.id for members in by_category.values() for item in members[self.start : self.end : self.step]}
        return tuple(item for item in items if item.id in chosen)


class EvaluationFolder:
    """Paths, and what is noted of the evaluation as a whole.

    Attributes:
      root: of all.
      about: the benchmark and its files.
      model: whose images these are.
      results, scores: the numbers, and those of each item.
      template, replies: the question to the judge, and one line a call.
      images: where drawn images lie, in the official layout.
      generate, judge: the stages that make images and replies.
    """

    def __init__(self, root: epath.Path, processes: Processes = ALONE):
        """Names the paths; nothing has to exist."""
        self.root = root
        self.about, self.model, self.results = (root / f"{name}.json" for name in ("evaluation", "model", "results"))
        self.scores, self.replies = root / "scores.jsonl", root / "replies.jsonl"
        self.template = root / "judge_template.txt"
        self.images = root / GENERATE / "images"
        self.generate = StageFolder(root, GENERATE, GENERATE_SHARDS, processes)
        self.judge = StageFolder(root, JUDGE, 1, processes)

    def begin(self, benchmark: Benchmark, files: Mapping[str, bytes] | None, part: Part) -> tuple[EvalItem, ...]:
        """Notes what is evaluated, or compares it with what was noted; returns all items.

        Args:
          benchmark: under its protocol.
          files: of the benchmark; None: those that the folder was begun with, or the benchmark's own.
          part: that is worked on.

        Raises:
          BadInput: the folder is another evaluation's; or a file of the benchmark cannot be used.
        """
        files = self.inputs() if files is None else files
        items = benchmark.items(files)
        noted.note(self.about, {
            "benchmark": benchmark.name, "protocol": benchmark.protocol,
            "prompt_files": {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())},
            "num_items": len(items), "images_per_item": benchmark.images_per_item,
            "drawn_as": benchmark.drawn_as, "part": dataclasses.asdict(part)})
        for name, data in files.items():
            create_once(self.root / "inputs" / name, data)
        return items

    def begun_with(self) -> dict[str, Any]:
        """What `begin` has noted.

        Raises:
          BadInput: nothing was.
        """
        if not object_store.exists(self.about):
            raise BadInput(f"--out {self.root}: expected the folder of an evaluation (evaluation.json), found none.")
        return noted.read(self.about)

    def inputs(self) -> dict[str, bytes]:
        """The benchmark's files that the folder was begun with; none where the benchmark has its own."""
        if not object_store.exists(self.about):
            return {}
        names = self.begun_with()["prompt_files"]
        return {name: object_store.read_bytes(self.root / "inputs" / name) for name in names}


def read_files(paths: Sequence[epath.PathLike]) -> dict[str, bytes]:
    """The files that --prompts names, by their names; of a folder, those that end in .json or .jsonl or .csv or .txt.

    Raises:
      BadInput: one is absent, or two have the same name.
    """
    files: dict[str, bytes] = {}
    for path in map(epath.Path, paths):
        if not path.exists():
            raise BadInput(f"--prompts {path}: {why_absent(path)}.")
        members = [path]
        if path.is_dir():
            members = sorted(root / name for root, _, names in path.walk() for name in names if not is_hidden(name)
                             and name.endswith((".json", ".jsonl", ".csv", ".txt")))
        for member in members:
            name = str(member.relative_to(path)).replace("/", "__") if path.is_dir() else member.name
            if name in files:
                raise BadInput(f"--prompts {path}: two files are named {name}.")
            files[name] = object_store.read_bytes(member)
    return files


def prompt_file_sha256(prompt_files: Mapping[str, str]) -> str:
    """One checksum for the files of a benchmark: that of the file, or of the list of checksums where there are several.

    Args:
      prompt_files: SHA-256 by name.
    """
    if len(prompt_files) == 1:
        return next(iter(prompt_files.values()))
    return hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in sorted(prompt_files.items())).encode()
                          ).hexdigest()
