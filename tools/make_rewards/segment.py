"""Proposes regions for every generated image: SAM's masks as boxes, or connected components.

Resumable: what is committed is not done again. Several processes share the work (--process-index, --num-processes).
"""

import argparse
import collections
import dataclasses
from collections.abc import Iterator
from typing import Any

from etils import epath

from srum_jax.command_line import in_range, user_path
from srum_jax.data.image_transform import read_header
from srum_jax.errors import BadInput
from srum_jax.generation.records import GenerationRecord
from srum_jax.overrides import add_set_argument, apply_overrides, together
from srum_jax.regions.components import Components, ComponentsConfig
from srum_jax.regions.sam import Sam, SamConfig, check_files
from srum_jax.rewards.proposals import Proposal, clean_proposals
from srum_jax.stages import SEGMENT, STAGE_VERSION
from srum_jax.storage.atomic_file import file_sha256
from tools.make_rewards.errors import Reject
from tools.make_rewards.run_folder import RunFolder, rejected
from tools.make_rewards.stage_run import add_stage_arguments, open_run, run_stage

SUMMARY = "propose regions for every image"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("--out", type=user_path, required=True, metavar="DIR",
                        help="the folder that `generate` has made")
    parser.add_argument("--provider", choices=("sam", "components"), default="sam",
                        help="sam: Segment Anything (default); components: connected regions of even colour, for drawn "
                             "worlds and for trying things out")
    parser.add_argument("--sam-model", type=user_path, metavar="DIR", help="a SAM checkpoint in Hugging Face's layout")
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
    add_stage_arguments(parser)
    add_set_argument(parser, together(sam=SamConfig(), components=ComponentsConfig()))


def settings_of(arguments: argparse.Namespace) -> SamConfig | ComponentsConfig:
    """Those of the provider, as --set says.

    Raises:
      OverrideError: a setting that there is not, that is of the other provider, or a value that it cannot have.
    """
    group = {"sam": SamConfig, "components": ComponentsConfig}[arguments.provider]()
    return getattr(apply_overrides(together(**{arguments.provider: group}), arguments.set), arguments.provider)


def run(arguments: argparse.Namespace) -> None:
    """The subcommand."""
    folder = open_run(arguments)
    settings = {
        "stage_version": STAGE_VERSION, **_identity(arguments), "max_candidates": arguments.max_candidates,
        "min_area": arguments.min_area, "max_share": arguments.max_share, "keep_masks": arguments.keep_masks}

    def begin():
        provider = _provider(arguments)
        return lambda unit: [_segment(generation, folder, provider, arguments) for generation in folder.generated(unit)]

    run_stage(SEGMENT, folder, settings, begin, _summary, arguments)


def _identity(arguments: argparse.Namespace) -> dict[str, Any]:
    """Who proposes, and how."""
    identity = {"provider": arguments.provider, arguments.provider: dataclasses.asdict(settings_of(arguments))}
    if arguments.provider == "components":
        return identity
    if arguments.sam_model is None:
        raise BadInput("--sam-model: expected the directory of a SAM checkpoint (config.json, model.safetensors), "
                            "for instance a download of facebook/sam-vit-huge; or choose --provider components.")
    check_files(arguments.sam_model)
    return identity | {"checkpoint_sha256": file_sha256(epath.Path(arguments.sam_model) / "model.safetensors")}


def _provider(arguments: argparse.Namespace) -> Sam | Components:
    chosen = settings_of(arguments)
    if arguments.provider == "components":
        return Components(chosen, arguments.keep_masks)
    return Sam(arguments.sam_model, chosen, arguments.device, arguments.keep_masks)


def _segment(
    generation: GenerationRecord, folder: RunFolder, provider: Sam | Components, arguments: argparse.Namespace
) -> dict[str, Any]:
    try:
        encoded, pixels = folder.read_image(generation)
    except Reject as reject:
        return rejected(generation.record_id, reject)
    raw = provider.propose(pixels)
    kept, dropped = clean_proposals(raw, pixels.shape[1], pixels.shape[0], max_candidates=arguments.max_candidates,
                                    min_area=arguments.min_area, max_share=arguments.max_share)
    converted = read_header(encoded).converted_from
    return {
        "record_id": generation.record_id, "provider": provider.name, "regions": [_line(p) for p in kept],
        "num_found": len(raw), "dropped": dropped, **({"converted_from": converted} if converted else {}),
        "stage_version": STAGE_VERSION,
    }


def _line(proposal: Proposal) -> dict[str, Any]:
    line = {"box": list(proposal.box), "area": proposal.area, "predicted_iou": proposal.predicted_iou,
            "stability": proposal.stability}
    return line if proposal.rle is None else line | {"rle": proposal.rle}


def _summary(records: Iterator[dict[str, Any]]) -> dict[str, Any]:
    reasons, dropped, converted = collections.Counter(), collections.Counter(), collections.Counter()
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
    return {"images": images, "rejected": dict(sorted(reasons.items())), "regions": regions,
            "images_without_regions": without, "regions_dropped": dict(sorted(dropped.items())),
            "converted_to_rgb": {mode: count for mode, count in sorted(converted.items(), key=str) if mode is not None}}
