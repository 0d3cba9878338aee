"""Makes records of records: the best picture of each prompt, or scores relative to the prompt's other pictures.

A judge's score of a whole picture moves its weight in the loss by little, the right ones of the tiny study weigh 1.2
times as much as the wrong. Several candidates of a prompt can be compared instead. Nothing is judged anew: scores are
those of the records, or those of --scores, a file of JSON lines with record_id and score in [-1, 1].

The new records keep images, regions and ids; those left out are counted in the manifest.
"""

import argparse
import collections
import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath

from srum_jax.command_line import user_path
from srum_jax.data.errors import DataError
from srum_jax.data.example_proto import decode_record
from srum_jax.data.manifest import MANIFEST
from srum_jax.data.records_source import RecordsSource, find_records, read_manifest
from srum_jax.data.schema import GlobalStatus
from srum_jax.data.writer import RecordWriter
from srum_jax.errors import BadInput
from srum_jax.rewards.groups import relative_scores
from srum_jax.stages import noted
from srum_jax.storage.atomic_file import file_sha256
from srum_jax.storage.reading import json_lines

SUMMARY = "keep the best candidates of each prompt, or score them against each other"


@dataclasses.dataclass(frozen=True)
class _Candidate:
    """A record, without its image."""

    index: int
    number: int
    place: int
    score: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("--records", type=user_path, required=True, metavar="DIR", help="to choose from")
    parser.add_argument("--out", type=user_path, required=True, metavar="DIR",
                        help="of the new records; left as it is if the same were written before")
    parser.add_argument("--scores", type=user_path, metavar="FILE",
                        help="global scores instead of those of the records, of every record")
    parser.add_argument("--best", action="store_true",
                        help="keep the candidate with the best global score of each prompt; the first of equals")
    parser.add_argument("--least", type=float, default=-1.0, metavar="SCORE",
                        help="keep candidates with at least this global score (default: all)")
    parser.add_argument("--relative", action="store_true",
                        help="global scores become the advantage over the prompt's other candidates, in standard "
                             "deviations, halved and held to [-1, 1]; --best and --least go by the scores before")


def run(arguments: argparse.Namespace) -> None:
    """The subcommand."""
    if not -1 <= arguments.least <= 1:
        raise BadInput(f"--least: expected a score in [-1, 1], found {arguments.least:g}.")
    try:
        records = find_records(arguments.records)
        manifest, source = read_manifest(records), RecordsSource(records)
    except DataError as error:
        raise BadInput(f"--records: {error}") from error
    out = epath.Path(arguments.out)
    settings = {
        "records_sha256": manifest.shards_sha256, "best": arguments.best, "least": arguments.least,
        "relative": arguments.relative,
        "scores_sha256": None if arguments.scores is None else file_sha256(arguments.scores),
    }
    if (out / MANIFEST).exists():
        before = (read_manifest(out).provenance or {}).get("selected", {})
        noted.raise_differences(out / MANIFEST, before, settings, "Choose another --out.")
        print(f"{out}: selected before")
        return
    candidates = _candidates(source, None if arguments.scores is None else _read_scores(arguments.scores))
    kept = _kept(candidates, arguments)
    try:
        writer = RecordWriter(out, name=manifest.name, num_shards=manifest.num_shards, settings=settings,
                              provenance={**(manifest.provenance or {}), "selected": settings})
    except ValueError as error:
        raise BadInput(str(error)) from error
    with writer:
        for candidate in sorted(candidates, key=lambda one: (one.index, one.number)):
            if candidate.place not in kept:
                writer.reject(candidate.index, "not_selected")
                continue
            record = decode_record(source.read(candidate.place))
            if (score := kept[candidate.place]) != record.global_score:
                record = dataclasses.replace(record, global_status=GlobalStatus.OK, global_score=score,
                                             global_score_raw=candidate.score)
            writer.write(record)
        writer.close(num_prompts=len({candidate.index for candidate in candidates}))
    print(json.dumps({"candidates": len(candidates), "selected": len(kept)}))


def _candidates(source: RecordsSource, scores: Mapping[str, float] | None) -> list[_Candidate]:
    found = []
    for place in range(len(source)):
        record = decode_record(source.read(place))
        score = record.global_score if scores is None else scores.get(record.record_id)
        if score is None:
            raise BadInput(f"{record.record_id}: expected a global score, found none; give --scores for all records.")
        found.append(_Candidate(record.index, record.candidate, place, score))
    return found


def _kept(candidates: list[_Candidate], arguments: argparse.Namespace) -> dict[int, float]:
    """New global scores, by the place of those that stay."""
    groups: dict[int, list[_Candidate]] = collections.defaultdict(list)
    for candidate in candidates:
        groups[candidate.index].append(candidate)
    kept = {}
    for group in groups.values():
        scores = [one.score for one in group]
        new = relative_scores(scores) if arguments.relative else scores
        best = max(group, key=lambda one: (one.score, -one.number))
        kept |= {one.place: score for one, score in zip(group, new, strict=True)
                 if one.score >= arguments.least and (one is best or not arguments.best)}
    return kept


def _read_scores(path: epath.PathLike) -> dict[str, float]:
    return dict(_checked(os.fspath(path)))


def _checked(path: str) -> Iterator[tuple[str, float]]:
    for number, line in json_lines(epath.Path(path)):
        fields: dict[str, Any] = line if isinstance(line, dict) else {}
        score = fields.get("score")
        if not isinstance(fields.get("record_id"), str):
            raise BadInput(f"{path}:{number}: field 'record_id': expected the id of a record, found "
                           f"{fields.get('record_id')!r}.")
        if isinstance(score, bool) or not isinstance(score, int | float) or not -1 <= score <= 1:
            raise BadInput(f"{path}:{number}: field 'score': expected a number in [-1, 1], found {score!r}.")
        yield fields["record_id"], float(score)
