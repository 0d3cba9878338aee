"""From what the stages wrote about an image to the record that training reads, or the reason why there is none."""

import argparse
import dataclasses
from collections.abc import Mapping
from typing import Any

from srum_jax.data.errors import ImageError
from srum_jax.data.schema import GlobalStatus, Region, RewardRecord, Verdict
from srum_jax.data.writer import record_of_image
from srum_jax.generation.prompts import Prompt
from srum_jax.generation.records import GenerationRecord
from srum_jax.rewards.boxes import Box
from srum_jax.rewards.judgement.judge_reply import ReplyStatus
from tools.make_rewards.errors import Reject


@dataclasses.dataclass(frozen=True)
class RecordRules:
    """Which judged images become records: each of these kinds is kept, or dropped."""

    global_zero: str = "keep"  # a global score of exactly 0; the authors drop it
    no_region: str = "drop"  # no region with a score; the authors keep it
    global_absent: str = "drop"  # of imported ones: no global score; the authors' loader keeps it and reads 0


PAPER_RULES = RecordRules()
OFFICIAL_RULES = RecordRules(global_zero="drop", no_region="keep")
IMPORT_RULES = RecordRules(no_region="keep")


def add_rule_arguments(parser: argparse.ArgumentParser, *names: str) -> None:
    """Declares an option for each of some rules; those that are not given are None."""
    for name in names:
        parser.add_argument(f"--{name.replace('_', '-')}", choices=("drop", "keep"), help=_RULES[name])


def rules_of(arguments: argparse.Namespace, preset: RecordRules) -> RecordRules:
    """A preset, changed by the options that were given."""
    given = {field.name: getattr(arguments, field.name, None) for field in dataclasses.fields(RecordRules)}
    return dataclasses.replace(preset, **{name: value for name, value in given.items() if value is not None})


_RULES = {
    "global_zero": "records whose global score is exactly 0 (default: keep; --preset official: drop)",
    "no_region": "records without any usable region (default: drop of a run, keep of imported ones and with --preset "
                 "official)",
    "global_absent": "records without a usable global score (default: drop)",
}


def reward_record(
    prompt: Prompt,
    generation: GenerationRecord,
    segmentation: Mapping[str, Any] | None,
    judgement: Mapping[str, Any],
    encoded: bytes,
    rules: RecordRules,
    provenance: Mapping[str, Any],
) -> RewardRecord:
    """Puts one record together; whether it may be stored is checked where it is encoded.

    Args:
      prompt: of the image.
      generation, segmentation, judgement: lines of the stages; no segmentation where the whole image was judged.
      encoded: the image file.
      rules: which judged images become records.
      provenance: where everything came from.

    Raises:
      Reject: the image becomes no record, and why.
    """
    regions = tuple(_region(region) for region in judgement["regions"])
    if not regions and rules.no_region == "drop":
        if judgement["local_status"] in (ReplyStatus.UNPARSED, ReplyStatus.TRUNCATED):
            raise Reject("local_unparsed", "no reply about the regions could be read")
        raise Reject("no_region", "no region has a score")
    layout = judgement["global"]
    status = GlobalStatus[judgement["global_status"].upper()]
    if layout is not None and layout["score"] == 0 and rules.global_zero == "drop":
        # The authors store a failed reply as 0 too; here the two are told apart.
        raise Reject("global_unparsed" if status is GlobalStatus.UNPARSED else "global_zero", "the global score is 0")
    if status is GlobalStatus.UNPARSED and layout is None:
        raise Reject("global_unparsed", "no reply about the layout could be read")
    if layout is not None:
        status = GlobalStatus.OK
    try:
        return record_of_image(
            encoded,
            record_id=generation.record_id,
            index=generation.index,
            candidate=generation.candidate,
            prompt=prompt.prompt,
            prompt_set=prompt.set,
            source_id=prompt.source_id,
            category=prompt.category or "",
            keywords=tuple(prompt.keywords),
            has_directive=prompt.has_directive,
            think_text=generation.think_text,
            regions=regions,
            provider="sample" if segmentation is None else segmentation["provider"],
            num_found=0 if segmentation is None else segmentation["num_found"],
            global_status=status,
            global_score=None if layout is None else layout["score"],
            global_score_raw=None if layout is None else layout["score_raw"],
            global_reason=None if layout is None else layout["reason"],
            judge_mode=judgement["mode"],
            judge_flags=_flags(judgement),
            judge_attempts=tuple(judgement["attempts"]),
            provenance=dict(provenance),
        )
    except ImageError as error:
        raise Reject("unreadable_image", str(error)) from error


def _region(fields: Mapping[str, Any]) -> Region:
    absent = -1.0
    return Region(
        box=Box(*fields["box"]),
        score=fields["score"],
        score_raw=fields["score_raw"],
        area=fields["area"],
        severity=fields["severity"],
        object=fields["object"],
        reason=fields["reason"],
        verdict=Verdict[(fields["verdict"] or "not_verified").upper()],
        keyword=fields["keyword"] or "",
        predicted_iou=absent if fields["predicted_iou"] is None else fields["predicted_iou"],
        stability=absent if fields["stability"] is None else fields["stability"],
    )


def _flags(judgement: Mapping[str, Any]) -> tuple[str, ...]:
    """Flags of regions with their numbers, then those of the record."""
    flags = [f"{flag}:{number}" for number, region in enumerate(judgement["regions"], start=1)
             for flag in region["flags"]]
    flags += [f"{flag}:global" for flag in (judgement["global"] or {}).get("flags", ())]
    if judgement["local_status"] not in (ReplyStatus.OK, "skipped"):
        flags.append(judgement["local_status"])
    return tuple(flags)
