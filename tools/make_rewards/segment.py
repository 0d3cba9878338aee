"""Proposes regions for every generated image: SAM's masks as boxes, boxes that the model itself names, or connected
components.

Resumable: what is committed is not done again. Several processes share the work (--process-index, --num-processes).
"""

import argparse
import collections
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from etils import epath

from srum_jax.command_line import in_range, user_path
from srum_jax.data.image_transform import read_header
from srum_jax.errors import BadInput
from srum_jax.families.registry import family_of
from srum_jax.inference.templates import Templates
from srum_jax.judges.own_model import ModelJudge
from srum_jax.model_arguments import add_model_arguments
from srum_jax.overrides import add_set_argument, apply_overrides, together
from srum_jax.regions.components import Components, ComponentsConfig
from srum_jax.regions.grounding import Grounding, GroundingConfig, Pictured
from srum_jax.regions.sam import Sam, SamConfig, check_files
from srum_jax.rewards.judgement.judge_templates import JudgeTemplates
from srum_jax.rewards.proposals import Proposal, clean_proposals
from srum_jax.stages import SEGMENT, STAGE_VERSION
from srum_jax.storage.atomic_file import file_sha256
from tools.make_rewards import own_model
from tools.make_rewards.errors import Reject
from tools.make_rewards.run_folder import RunFolder, StageUnit, rejected
from tools.make_rewards.stage_run import add_stage_arguments, open_run, run_stage

SUMMARY = "propose regions for every image"
_CONFIGS = {"sam": SamConfig, "grounding": GroundingConfig, "components": ComponentsConfig}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("--out", type=user_path, required=True, metavar="DIR",
                        help="the folder that `generate` has made")
    parser.add_argument("--provider", choices=tuple(_CONFIGS), default="sam",
                        help="sam: Segment Anything (default); grounding: the checkpoint itself, where it was trained "
                             "to name boxes; components: connected regions of even colour, for drawn worlds and for "
                             "trying things out")
    parser.add_argument("--sam-model", type=user_path, metavar="DIR", help="a SAM checkpoint in Hugging Face's layout")
    parser.add_argument("--judge-templates", type=user_path, metavar="FILE",
                        help="the question of grounding in your own words, TOML")
    parser.add_argument("--batch-size", type=in_range(int, 1), default=16, metavar="N",
                        help="calls of grounding answered together (default: 16)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="of SAM")
    parser.add_argument("--max-candidates", type=in_range(int, 1), default=20, metavar="N",
                        help="largest regions that are kept (default: %(default)s; the authors keep 10)")
    parser.add_argument("--min-area", type=in_range(int, 0), default=0, metavar="PIXELS",
                        help="smaller masks are dropped")
    parser.add_argument("--max-share", type=in_range(float, 0, 1), default=1.0, metavar="SHARE",
                        help="masks of more than this share of the image are dropped, such as the ground that "
                             "everything lies on (default: %(default)g, none)")
    parser.add_argument("--keep-masks", action="store_true",
                        help="store the mask of every region too, as COCO's uncompressed run lengths")
    add_model_arguments(parser, required=False)  # only grounding needs it
    add_stage_arguments(parser)
    add_set_argument(parser, together(**{name: config() for name, config in _CONFIGS.items()}))


def settings_of(arguments: argparse.Namespace) -> SamConfig | GroundingConfig | ComponentsConfig:
    """Those of the provider, as --set says.

    Raises:
      OverrideError: a setting that there is not, that is of the other provider, or a value that it cannot have.
    """
    group = _CONFIGS[arguments.provider]()
    return getattr(apply_overrides(together(**{arguments.provider: group}), arguments.set), arguments.provider)


def run(arguments: argparse.Namespace) -> None:
    """The subcommand."""
    folder = open_run(arguments)
    settings = {
        "stage_version": STAGE_VERSION, **_identity(arguments), "max_candidates": arguments.max_candidates,
        "min_area": arguments.min_area, "max_share": arguments.max_share, "keep_masks": arguments.keep_masks}

    def begin():
        propose = _proposer(arguments)
        return own_model.watched(lambda unit: _segment(unit, folder, propose, arguments),
                                 f"the model ({arguments.checkpoint})", arguments.dtype)

    run_stage(SEGMENT, folder, settings, begin, _summary, arguments)


def _identity(arguments: argparse.Namespace) -> dict[str, Any]:
    """Who proposes, and how."""
    identity = {"provider": arguments.provider, arguments.provider: dataclasses.asdict(settings_of(arguments))}
    if arguments.provider == "components":
        return identity
    if arguments.provider == "grounding":
        own = own_model.identity(arguments, "choose --provider sam")
        if own_model.box_frame(arguments) is None:
            raise BadInput(f"--provider grounding: expected a model that was trained to name boxes, found "
                           f"{family_of(arguments.checkpoint).architecture.name} in {arguments.checkpoint}; choose "
                           "--provider sam.")
        return identity | own | {"template_sha256": _templates(arguments)["grounding"].sha256,
                                 "batch_size": arguments.batch_size}
    if arguments.sam_model is None:
        raise BadInput("--sam-model: expected the directory of a SAM checkpoint (config.json, model.safetensors), "
                            "for instance a download of facebook/sam-vit-huge; or choose --provider components.")
    check_files(arguments.sam_model)
    return identity | {"checkpoint_sha256": file_sha256(epath.Path(arguments.sam_model) / "model.safetensors")}


def _templates(arguments: argparse.Namespace) -> JudgeTemplates:
    return JudgeTemplates.read(arguments.judge_templates)


def _proposer(arguments: argparse.Namespace) -> Callable[[Sequence[Pictured]], list[dict[str, Any]]]:
    """What proposes regions of pictures: "proposals", and what the line of a picture tells of them."""
    chosen = settings_of(arguments)
    if arguments.provider == "grounding":
        judge = ModelJudge(own_model.answerer(arguments, Templates.read(arguments.templates)), arguments.batch_size)
        return Grounding(judge, own_model.box_frame(arguments), chosen, _templates(arguments)).propose
    if arguments.provider == "components":
        provider = Components(chosen, arguments.keep_masks)
    else:
        provider = Sam(arguments.sam_model, chosen, arguments.device, arguments.keep_masks)

    def one_by_one(pictures: Sequence[Pictured]) -> list[dict[str, Any]]:
        found = (provider.propose(picture.pixels) for picture in pictures)
        return [{"proposals": proposals, "num_found": len(proposals)} for proposals in found]

    return one_by_one


def _segment(unit: StageUnit, folder: RunFolder, propose, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The lines of a unit."""
    lines: dict[int, dict[str, Any]] = {}
    pictures: dict[int, Pictured] = {}
    for number, generation in enumerate(folder.generated(unit)):
        try:
            encoded, pixels = folder.read_image(generation)
        except Reject as reject:
            lines[number] = rejected(generation.record_id, reject)
            continue
        prompt, converted = folder.prompt(generation), read_header(encoded).converted_from
        pictures[number] = Pictured(generation.record_id, pixels, prompt.prompt, prompt.keywords)
        lines[number] = {"record_id": generation.record_id, "provider": arguments.provider,
                         **({"converted_from": converted} if converted else {}), "stage_version": STAGE_VERSION}
    for (number, picture), found in zip(pictures.items(), propose(list(pictures.values())), strict=True):
        height, width = picture.pixels.shape[:2]
        kept, dropped = clean_proposals(found.pop("proposals"), width, height, max_candidates=arguments.max_candidates,
                                        min_area=arguments.min_area, max_share=arguments.max_share)
        lines[number] |= {**found, "regions": [_line(proposal) for proposal in kept],
                          "dropped": {**found.get("dropped", {}), **dropped}}
    return [lines[number] for number in range(len(lines))]


def _line(proposal: Proposal) -> dict[str, Any]:
    line = {"box": list(proposal.box), "area": proposal.area, "predicted_iou": proposal.predicted_iou,
            "stability": proposal.stability}
    known = {"rle": proposal.rle, "label": proposal.label}
    return line | {name: value for name, value in known.items() if value is not None}


def _summary(records: Iterator[dict[str, Any]]) -> dict[str, Any]:
    reasons, dropped, converted, problems, flags = (collections.Counter() for _ in range(5))
    images = regions = without = 0
    for record in records:
        images += 1
        if "rejected" in record:
            reasons[record["rejected"]["reason"]] += 1
            continue
        regions += len(record["regions"])
        without += not record["regions"]
        converted[record.get("converted_from")] += 1
        dropped.update(record["dropped"])
        problems.update(record.get("problems", {}))
        flags.update(record.get("flags", ()))
    return {"images": images, "rejected": dict(sorted(reasons.items())), "regions": regions,
            "images_without_regions": without, "regions_dropped": dict(sorted(dropped.items())),
            **{name: dict(sorted(counter.items()))
               for name, counter in (("problems", problems), ("flags", flags)) if counter},
            "converted_to_rgb": {mode: count for mode, count in sorted(converted.items(), key=str) if mode is not None}}
