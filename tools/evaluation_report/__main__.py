"""One HTML page of an evaluation, or of two side by side: numbers, differences with intervals, pictures and replies.

    python -m tools.evaluation_report runs/srum --against runs/base --out report
"""

import argparse
import dataclasses
import functools
import hashlib
import importlib.resources
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from srum_jax.command_line import in_range, set_up_streams, user_path
from srum_jax.errors import BadInput
from srum_jax.evaluation.benchmark import OVERALL, Benchmark, EvalItem, ItemScore
from srum_jax.evaluation.folder import EvaluationFolder
from srum_jax.evaluation.registry import open_benchmark
from srum_jax.evaluation.scoring import compare, read_scores
from srum_jax.stages import noted
from srum_jax.stages.interruption import run_command
from srum_jax.storage.atomic_file import atomic_write
from tools.make_rewards.report.page import PageWriter
from tools.make_rewards.report.thumbnails import thumbnail

PAGE = "index.html"
_REPLY_CHARACTERS = 2000
_MOST_PICTURES = 4  # of an item: those of the first images


@dataclasses.dataclass(frozen=True)
class Shown:
    """One evaluation as the page needs it."""

    folder: EvaluationFolder
    benchmark: Benchmark
    items: tuple[EvalItem, ...]
    results: Mapping[str, Any]
    scores: Mapping[str, ItemScore]
    replies: Mapping[str, list[str]]  # by item
    images: epath.Path

    @property
    def model(self) -> str:
        """What it is called."""
        return self.results["model"]["id"] or self.folder.root.name

    @functools.cached_property
    def value_names(self) -> dict[str, str]:
        """By category, the value that enters the overall number."""
        overall = next(total for total in self.benchmark.totals(self.items) if total.name == OVERALL)
        return {term.category: term.value for term in overall.terms}

    def value(self, item: EvalItem) -> float | None:
        """Of an item; None where it has none."""
        score = self.scores.get(item.id)
        return None if score is None or score.failed else score.values[self.value_names[item.category]]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.evaluation_report", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=user_path, metavar="DIR", help="the folder of an evaluation with its results")
    parser.add_argument("--against", type=user_path, metavar="DIR", help="that of another model")
    parser.add_argument("--out", type=user_path, required=True, metavar="FOLDER", help=f"where {PAGE} is written")
    parser.add_argument("--images", type=user_path, nargs="+", metavar="DIR",
                        help="where pictures of other programs lie, for each evaluation in its order")
    parser.add_argument("--thumbnail-pixels", type=in_range(int, 16, 2048), default=256, metavar="N",
                        help="longer side of the pictures in the page (default: %(default)s)")
    parser.add_argument("--max-megabytes", type=in_range(int, 1), default=400, metavar="N",
                        help="a larger page is an error (default: %(default)s)")
    arguments = parser.parse_args(argv)
    set_up_streams()
    return run_command(lambda: run(arguments))


def run(arguments: argparse.Namespace) -> int:
    """Writes the page; returns the exit code."""
    roots = [root for root in (arguments.run, arguments.against) if root is not None]
    given = arguments.images or []
    if len(given) > len(roots):
        raise BadInput(f"--images: expected at most {len(roots)} folders, one for each evaluation, found {len(given)}.")
    shown = [_read(root, given[place] if place < len(given) else None) for place, root in enumerate(roots)]
    first = shown[0]
    differences: Mapping[str, Any] = {}
    if len(shown) == 2 and all(one.results["complete"] for one in shown):
        differences = compare(first.benchmark, first.items, first.results, first.scores, shown[1].folder.results)
    elif len(shown) == 2 and [item.id for item in first.items] != [item.id for item in shown[1].items]:
        raise BadInput(f"--against {arguments.against}: expected the same items, found others.")
    out = epath.Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    assets = importlib.resources.files(__package__) / "assets"
    with atomic_write(out / PAGE) as file:
        writer = PageWriter(file, arguments.max_megabytes * 2**20, (assets,), ("elements.js", "pairs.js"))
        for item in first.items:
            writer.record(_row(item, shown), _more(item, shown, arguments.thumbnail_pixels), None)
        writer.close(_summary(shown, differences))
    print(f"{out / PAGE}: {writer.num_records} items, {writer.num_bytes / 2**20:.1f} MiB")
    return 0


def _read(root: str, images: str | None) -> Shown:
    folder = EvaluationFolder(epath.Path(root))
    about = folder.begun_with()
    if not folder.results.exists():
        raise BadInput(f"{folder.results}: expected what `--stage score` writes, found nothing.")
    benchmark = open_benchmark(about["benchmark"], about["protocol"], "", about["drawn_as"])
    replies: dict[str, list[str]] = {}
    if folder.replies.exists():
        for line in map(json.loads, folder.replies.read_bytes().splitlines()):
            replies.setdefault(line["item_id"], []).append(line["text"])
    return Shown(folder, benchmark, benchmark.items(folder.inputs()), noted.read(folder.results),
                 read_scores(folder.root), replies, epath.Path(images) if images else folder.images)


def _row(item: EvalItem, shown: Sequence[Shown]) -> dict[str, Any]:
    values = [one.value(item) for one in shown]
    difference = values[0] - values[1] if len(values) == 2 and None not in values else None
    change = None if difference is None else "gain" if difference > 0 else "loss" if difference < 0 else "same"
    failed = [one.scores[item.id].why if item.id in one.scores and value is None else "missing" if value is None else ""
              for one, value in zip(shown, values, strict=True)]
    texts = [item.prompt, item.id, *(text for one in shown for text in one.replies.get(item.id, ()))]
    return {"id": item.id, "category": item.category, "prompt": item.prompt, "values": values, "difference": difference,
            "change": change, "failed": failed, "text": "\n".join(texts)[:_REPLY_CHARACTERS].lower()}


def _more(item: EvalItem, shown: Sequence[Shown], pixels: int) -> dict[str, Any]:
    return {
        "pictures": [[_picture(one.images / one.benchmark.image(item, number), pixels)
                      for number in range(min(one.benchmark.images_per_item, _MOST_PICTURES))] for one in shown],
        "replies": [[text[:_REPLY_CHARACTERS] for text in one.replies.get(item.id, ())] for one in shown],
    }


def _picture(path: epath.Path, pixels: int) -> str | None:
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""
    return thumbnail(path, digest, pixels, 75).url


def _summary(shown: Sequence[Shown], differences: Mapping[str, Any]) -> dict[str, Any]:
    first = shown[0]
    names = [total.name for total in first.benchmark.totals(first.items)]

    def mean(one: Shown, name: str) -> dict[str, Any] | None:
        found = one.results["scores"].get(name)
        if name == OVERALL:
            return None if found is None else {"mean": found, "stderr": one.results["scores"]["overall_stderr"]}
        return found

    absent = []
    for one in shown:
        if not one.results["complete"]:
            absent.append(f"{one.model}: {len(one.results['missing_items'])} items are missing and "
                          f"{one.results['num_failed']} failed, so there is no overall number")
        if one.results["other_prompts"]:
            absent.append(f"{one.model}: these are not the prompts of {one.benchmark.name}")
    return {
        "benchmark": first.benchmark.name, "protocol": first.benchmark.protocol,
        "judge": (first.results["judge"] or {}).get("id"), "models": [one.model for one in shown], "absent": absent,
        "numbers": [{"name": name, "means": [mean(one, name) for one in shown], "difference": differences.get(name)}
                    for name in names],
    }


if __name__ == "__main__":
    sys.exit(main())
