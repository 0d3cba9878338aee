"""The score stage: from replies to numbers. Loads no model, and can be done again with another rule at any time."""

import collections
import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from srum_jax.errors import BadInput
from srum_jax.evaluation.benchmark import OVERALL, Benchmark, EvalItem, ItemScore, JudgeReply
from srum_jax.evaluation.folder import EvaluationFolder, prompt_file_sha256
from srum_jax.evaluation.judging import JudgeUnit, read_lines, replies_of
from srum_jax.evaluation.means import Scores, paired_difference
from srum_jax.stages import noted
from srum_jax.storage import object_store
from srum_jax.storage.atomic_file import as_json_lines, write_bytes, write_json

# What two results must agree in to be compared.
COMPARABLE = ("benchmark", "protocol", "judge", "prompt_file_sha256", "num_items")


def score(
    benchmark: Benchmark, items: Sequence[EvalItem], units: Sequence[JudgeUnit], folder: EvaluationFolder,
    failures: str | None = None,
) -> dict[str, Any]:
    """Reads all replies; writes `results.json`, `scores.jsonl` and the benchmark's own tables; returns the first.

    Args:
      benchmark: under its protocol.
      items: all, also those that were not worked on.
      units: of the judge stage.
      folder: of the evaluation.
      failures: the rule for failed items; None for the benchmark's first.

    Raises:
      BadInput: the benchmark has no such rule.
    """
    rules = dict(benchmark.failures)
    if failures is not None and failures not in rules:
        raise BadInput(f"--failures: expected one of {', '.join(rules) or 'none: this benchmark has no such rule'}; "
                       f"found {failures!r}.")
    rule = next(iter(rules), None) if failures is None else failures
    replies: dict[str, list[list[JudgeReply]]] = {}
    missing_images, num_images = [], 0
    for line in read_lines(units, folder):
        if "missing" in line:
            missing_images.append(line["missing"])
            continue
        num_images += 1
        replies.setdefault(line["item_id"], []).append(replies_of(line))
    scores = {item.id: benchmark.read(item, replies[item.id]) for item in items
              if len(replies.get(item.id, ())) == benchmark.images_per_item}
    results = _results(benchmark, items, scores, folder, rule) | {
        "missing_images": missing_images,
        "missing_items": [item.id for item in items if item.id not in scores],
    }
    results["num_images"] = num_images
    write_json(folder.results, results)
    write_bytes(folder.scores,
                as_json_lines(dataclasses.asdict(scores[item.id]) for item in items if item.id in scores))
    for name, data in benchmark.tables(items, scores, replies, results).items():
        path = folder.root / "tables" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, data)
    return results


def _results(
    benchmark: Benchmark, items: Sequence[EvalItem], scores: Mapping[str, ItemScore], folder: EvaluationFolder,
    rule: str | None,
) -> dict[str, Any]:
    about = folder.begun_with()
    judged = noted.read(folder.judge.settings) if object_store.exists(folder.judge.settings) else {}
    drawn = noted.read(folder.generate.settings) if object_store.exists(folder.generate.settings) else {}
    model = noted.read(folder.model) if object_store.exists(folder.model) else {"id": None, "checkpoint_sha256": None}
    judge = judged.get("judge", {})
    settings = drawn.get("generate", {}).get("settings", {})
    failed = sorted(found.item_id for found in scores.values() if found.failed)
    complete = len(scores) == len(items) and (not failed or bool(benchmark.failures)) and {
        item.category for item in items} >= {term.category for total in benchmark.totals(items) for term in total.terms}
    counts = collections.Counter(item.category for item in items)
    others = {name: [counts[name], count] for name, count in benchmark.official_counts.items() if counts[name] != count}
    variants = {f"failures_{name}": _means(benchmark, items, Scores(items, scores, value), complete)
                for name, value in benchmark.failures.items() if name != rule}
    table = Scores(items, scores, benchmark.failures.get(rule))
    return {
        "benchmark": benchmark.name, "protocol": benchmark.protocol, "model": model,
        "judge": {name: value for name, value in judge.items() if name != "file_sha256"} or None,
        "replies_sha256": judge.get("file_sha256"), "judge_template_sha256": judged.get("template_sha256"),
        "prompt_file_sha256": prompt_file_sha256(about["prompt_files"]),
        "sampler": settings.get("sampler"), "think": settings.get("plan") is not None if settings else None,
        "base_seed": settings.get("base_seed"), "other_prompts": others, "num_items": len(items),
        "num_images": 0, "num_judged": len(scores),
        "num_failed": len(failed), "failed": {name: scores[name].why for name in failed}, "failures": rule,
        "scores": _means(benchmark, items, table, complete), "complete": complete, "variants": variants,
        **({} if complete else {"partial": _partial_means(benchmark, items, table)}),
    }


def _means(benchmark: Benchmark, items: Sequence[EvalItem], scores: Scores, complete: bool) -> dict[str, Any]:
    """The benchmark's numbers; null where an item of theirs is missing."""
    excluding = None in benchmark.failures.values()
    found: dict[str, Any] = {}
    for total in benchmark.totals(items):
        whole = complete if excluding or total.name == OVERALL else scores.is_whole(total)
        mean = scores.mean(total) if whole else None
        if total.name == OVERALL:
            found[OVERALL] = None if mean is None else mean.mean
            found["overall_stderr"] = None if mean is None else mean.stderr
        else:
            found[total.name] = None if mean is None else {"mean": mean.mean, "stderr": mean.stderr, "n": mean.n}
    return found


def _partial_means(benchmark: Benchmark, items: Sequence[EvalItem], scores: Scores) -> dict[str, Any]:
    """Of what there is, by total; never the benchmark's numbers."""
    means = {total.name: scores.mean(total) for total in benchmark.totals(items)}
    return {name: {"mean": mean.mean, "n": mean.n} for name, mean in means.items() if mean is not None}


def read_scores(folder: epath.Path) -> dict[str, ItemScore]:
    """The scores of each item that another evaluation has written.

    Raises:
      BadInput: there are none, or a line is not as they are written.
    """
    path = folder / "scores.jsonl"
    if not object_store.exists(path):
        raise BadInput(f"{path}: expected what `--stage score` writes, found nothing.")
    found = {}
    for number, line in enumerate(object_store.read_bytes(path).splitlines(), start=1):
        try:
            fields = json.loads(line)
            values = {name: float(value) for name, value in fields["values"].items()}
            if not all(math.isfinite(value) for value in values.values()):
                raise ValueError("field 'values': expected finite numbers")
            found[fields["item_id"]] = ItemScore(fields["item_id"], fields["category"], values, fields["failed"],
                                                 fields["why"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadInput(f"{path}:{number}: expected the score of an item ({error}); it was changed.") from error
    return found


def compare(
    benchmark: Benchmark, items: Sequence[EvalItem], results: Mapping[str, Any], mine: Mapping[str, ItemScore],
    other: epath.PathLike,
) -> dict[str, Any]:
    """The differences of this model to another, by total, with their intervals.

    Args:
      benchmark: of both.
      items: of both.
      results: of this one.
      mine: scores of this one.
      other: a `results.json`, or its folder.

    Raises:
      BadInput: the two cannot share a table, or the other is incomplete; lists the differences.
    """
    path = epath.Path(other)
    path = path / "results.json" if path.is_dir() else path
    if not path.exists():
        raise BadInput(f"--against {path}: expected the results of an evaluation, found nothing.")
    others = noted.read(path, "--against")
    noted.raise_differences(path, {name: others.get(name) for name in COMPARABLE},
                            {name: results[name] for name in COMPARABLE},
                            "Only results of one benchmark, protocol, judge and prompt file can be compared.")
    for name, found in ((path, others), ("this evaluation", results)):
        if not found.get("complete"):
            raise BadInput(f"--against {path}: expected two complete results, found {name} incomplete.")
    value = benchmark.failures.get(results["failures"])
    first, second = Scores(items, mine, value), Scores(items, read_scores(path.parent), value)
    differences = {total.name: paired_difference(first, second, total) for total in benchmark.totals(items)}
    return {name: None if found is None else
            {"difference": found.difference, "low": found.low, "high": found.high}
            for name, found in differences.items()}
