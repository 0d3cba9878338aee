"""Says whether the dual rewards of a model can be trusted: how alike they rank the members of a group each time.

A file of groups has one JSON object a line, of either kind; `right` says which members fit, where that is known:

    {"picture": "a.png", "captions": ["a red ring", "two rings"], "right": [true, false], "category": "number"}
    {"prompt": "a red ring", "pictures": ["a.png", "b.png"], "right": [true, false]}

Captions are ranked by R_U, how well each leads to the picture; pictures by R_G, how likely they make the prompt. Paths
are relative to the file. Nothing is refused because of a figure: read them before you train.
"""

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from etils import epath

from srum_jax.command_line import in_range, set_up_streams, user_path
from srum_jax.data.errors import ImageError
from srum_jax.data.image_transform import decode_image, to_rgb
from srum_jax.errors import BadInput
from srum_jax.inference.requests import ImageRequest, Question, RequestError
from srum_jax.inference.templates import Templates
from srum_jax.model_arguments import add_model_arguments, device_failures, load_pipeline
from srum_jax.overrides import add_set_argument, apply_overrides, together
from srum_jax.rewards.dual_config import DualRewards
from srum_jax.rewards.reliability import ScoredGroup, by_category
from srum_jax.stages.interruption import run_command
from srum_jax.storage.atomic_file import write_json
from srum_jax.storage.reading import json_lines

if TYPE_CHECKING:
    from srum_jax.inference.protocols import Scorer

_REFERENCE_SEED, _SEED = 1, 0

_EPILOG = """
examples:
  python -m tools.measure_rewards --checkpoint BAGEL-7B-MoT --groups groups.jsonl --json report.json
  python -m tools.measure_rewards --checkpoint BAGEL-7B-MoT --groups groups.jsonl --set rewards.draws=32

exit codes:
  0  done
  1  failed
  2  the arguments, the file or the checkpoint cannot be used
"""


@dataclasses.dataclass(frozen=True)
class GivenGroup:
    """A line of the file."""

    texts: tuple[str, ...]
    pictures: tuple[np.ndarray, ...]  # uint8 [H, W, 3]
    right: np.ndarray | None
    category: str

    @property
    def ranks_captions(self) -> bool:
        """Whether the texts are the members; otherwise the pictures are."""
        return len(self.pictures) == 1

    @property
    def pairs(self) -> list[tuple[str, np.ndarray]]:
        """Every member beside what it is a member for: texts with pictures."""
        return [(text, pixels) for text in self.texts for pixels in self.pictures]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.measure_rewards", description=__doc__, epilog=_EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=user_path, required=True, metavar="FILE", help="what is ranked, see above")
    parser.add_argument("--reference-draws", type=in_range(int, 1), default=64, metavar="K",
                        help="draws of the ranking that R_U is compared with (default: %(default)s)")
    parser.add_argument("--batch-size", type=in_range(int, 1), default=16, metavar="N",
                        help="members scored together (default: %(default)s)")
    parser.add_argument("--json", type=user_path, metavar="REPORT", help="also write the figures to this file")
    add_model_arguments(parser)
    add_set_argument(parser, together(rewards=DualRewards()))
    arguments = parser.parse_args(argv)
    set_up_streams()
    return run_command(lambda: run(arguments))


def run(arguments: argparse.Namespace) -> None:
    """Measures and prints."""
    rules: DualRewards = apply_overrides(together(rewards=DualRewards()), arguments.set).rewards
    groups = read_groups(epath.Path(arguments.groups))
    with device_failures("If memory ran out, use a smaller --batch-size, or more shards of the weights (--mesh)."):
        report = _measured(groups, rules, arguments)
    if arguments.json:
        write_json(epath.Path(arguments.json), report)


def _measured(groups: Sequence[GivenGroup], rules: DualRewards, arguments: argparse.Namespace) -> dict[str, Any]:
    """Figures of either reward, which are printed too."""
    scorer = load_pipeline(arguments, Templates.read(arguments.templates), understanding=True).scorer
    if scorer is None:
        raise BadInput(f"--checkpoint {arguments.checkpoint}: this family of models cannot say how likely a text is.")
    report = {}
    for name, of_captions in (("R_U", True), ("R_G", False)):
        chosen = [group for group in groups if group.ranks_captions == of_captions]
        if not chosen:
            continue
        score = _score_captions if of_captions else _score_pictures
        try:
            scored = score(chosen, scorer, rules, arguments)
        except RequestError as error:
            raise BadInput(f"--groups {arguments.groups}: {error}") from error
        kind = "likelihood" if not of_captions or scorer.exact else "surrogate"
        report[name] = {"kind": kind, "by_category": by_category(scored)}
        _print(name, kind, report[name]["by_category"])
    return report


def read_groups(path: epath.Path) -> list[GivenGroup]:
    """Reads and checks a file of groups.

    Raises:
      BadInput: naming the line, the field, what was expected and what was found.
    """
    groups = []
    for number, fields in json_lines(path):
        where = f"{path}:{number}"
        if not isinstance(fields, dict):
            raise BadInput(f"{where}: expected an object, found {type(fields).__name__}.")
        of_captions = "picture" in fields
        one, many = ("picture", "captions") if of_captions else ("prompt", "pictures")
        _check(isinstance(fields.get(one), str), where, one, "a text", fields.get(one))
        members = fields.get(many)
        _check(isinstance(members, list) and len(members) > 1 and all(isinstance(member, str) for member in members),
               where, many, "a list of at least two texts", members)
        right = fields.get("right")
        _check(right is None or (isinstance(right, list) and len(right) == len(members)
                                 and all(isinstance(value, bool) for value in right)),
               where, "right", f"{len(members)} truth values", right)
        paths = [fields[one]] if of_captions else members
        texts = members if of_captions else [fields[one]]
        groups.append(GivenGroup(
            tuple(texts), tuple(_pixels(path.parent / name, where) for name in paths),
            None if right is None else np.array(right), str(fields.get("category", "all"))))
    if not groups:
        raise BadInput(f"{path}: expected groups, found none.")
    return groups


def _check(condition: bool, where: str, field: str, expected: str, found: Any) -> None:
    if not condition:
        raise BadInput(f"{where}: field '{field}': expected {expected}, found {found!r}.")


def _pixels(path: epath.Path, where: str) -> np.ndarray:
    try:
        return np.asarray(to_rgb(decode_image(path.read_bytes())))
    except (ImageError, OSError) as error:
        raise BadInput(f"{where}: {path}: {error}.") from error


def _score_captions(
    groups: Sequence[GivenGroup], scorer: "Scorer", rules: DualRewards, arguments: argparse.Namespace
) -> list[ScoredGroup]:
    """R_U, under draws that are common to a group."""
    once, again = (_picture_scores(groups, scorer, rules, arguments.batch_size, turned=turned)
                   for turned in (False, True))
    reference = None if scorer.exact else _picture_scores(
        groups, scorer, dataclasses.replace(rules, draws=arguments.reference_draws), arguments.batch_size,
        seed=_REFERENCE_SEED)
    other = _text_scores(groups, scorer, rules, arguments.batch_size)
    return [
        ScoredGroup(group.category, once[n].mean(axis=1), again[n].mean(axis=1), None if scorer.exact else once[n],
                    None if reference is None else reference[n].mean(axis=1), group.right,
                    np.array([len(text.split()) for text in group.texts]), other[n])
        for n, group in enumerate(groups)
    ]


def _score_pictures(
    groups: Sequence[GivenGroup], scorer: "Scorer", rules: DualRewards, arguments: argparse.Namespace
) -> list[ScoredGroup]:
    """R_G."""
    once, again = (_text_scores(groups, scorer, rules, arguments.batch_size, turned=turned) for turned in (False, True))
    other = _picture_scores(groups, scorer, rules, arguments.batch_size)
    return [ScoredGroup(group.category, once[n], again[n], right=group.right, other=other[n].mean(axis=1))
            for n, group in enumerate(groups)]


def _picture_scores(
    groups: Sequence[GivenGroup], scorer: "Scorer", rules: DualRewards, size: int, *, seed: int = _SEED,
    turned: bool = False,
) -> list[np.ndarray]:
    """How well each text leads to the picture beside it, float64 [N, draws] for each group, whose draws are common."""
    from srum_jax.rewards.dual_likelihood import strata  # and with it JAX

    times = strata(rules.low, rules.high, rules.draws)
    items = [(ImageRequest(text, 2 * number + seed), pixels, times)
             for number, group in enumerate(groups) for text, pixels in group.pairs]

    def score(batch: Sequence[tuple[ImageRequest, np.ndarray, np.ndarray]]) -> np.ndarray:
        requests, pictures, times = zip(*batch, strict=True)
        return scorer.pictures(requests, pictures, np.stack(times))

    return _split(_turned(score, items, size, turned), [len(group.pairs) for group in groups])


def _text_scores(
    groups: Sequence[GivenGroup], scorer: "Scorer", rules: DualRewards, size: int, *, turned: bool = False
) -> list[np.ndarray]:
    """How likely each picture makes the text beside it, float64 [N] for each group."""
    items = [(Question(rules.request, (pixels,)), text) for group in groups for text, pixels in group.pairs]

    def score(batch: Sequence[tuple[Question, str]]) -> np.ndarray:
        questions, texts = zip(*batch, strict=True)
        return scorer.texts(questions, texts, count_end=rules.count_end)

    return _split(_turned(score, items, size, turned), [len(group.pairs) for group in groups])


def _turned(score, items: list, size: int, turned: bool) -> np.ndarray:
    """Scores in full batches; every item at another place of its batch than before, if `turned`."""
    from srum_jax.rollouts.candidates import in_batches  # and with it JAX

    order = np.roll(np.arange(len(items)), 1 if turned else 0)
    found = in_batches(score, [items[number] for number in order], size)
    return np.asarray(found, np.float64)[np.argsort(order)]


def _split(values: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
    return np.split(values, np.cumsum(sizes)[:-1])


def _print(name: str, kind: str, table: Mapping[str, Mapping[str, float]]) -> None:
    names = list(dict.fromkeys(measure for row in table.values() for measure in row))
    width = max(len(category) for category in table)
    print(f"{name} ({kind})")
    print(f"  {'':{width}}  " + "  ".join(names))
    for category, row in table.items():
        cells = (f"{row[measure]:.3g}" if measure in row else "-" for measure in names)
        print(f"  {category:{width}}  " + "  ".join(f"{cell:>{len(measure)}}" for cell, measure in
                                                     zip(cells, names, strict=True)))
    everyone = table["all"]
    if "best_agrees" in everyone:
        print(f"  best of the group agrees in {everyone['best_agrees']:.0%} of groups")


if __name__ == "__main__":
    sys.exit(main())
