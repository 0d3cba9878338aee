"""The command-line arguments of generation, and the settings that they stand for."""

import argparse
import dataclasses
import re

from srum_jax.generation.image_store import FORMATS as IMAGE_FORMATS
from srum_jax.generation.prompt_formats import AUTO
from srum_jax.generation.prompt_formats import FORMATS as PROMPT_FORMATS
from srum_jax.generation.run_settings import GenerationSettings
from srum_jax.inference.settings import EDITING, RENORM_NAMES, TEXT_TO_IMAGE, FlowSampler, TextSampler
from srum_jax.stages.processes import add_process_arguments

_FLAG = argparse.BooleanOptionalAction


def add_generation_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the groups "prompts", "images", "sampling", "output" and "processes"."""
    group = parser.add_argument_group("prompts")
    source = group.add_mutually_exclusive_group(required=True)
    source.add_argument("--prompts", metavar="FILE", help="JSON lines, a JSON array, or plain text")
    source.add_argument("--prompt", action="append", metavar="TEXT", help="a prompt itself; repeatable")
    group.add_argument("--prompt-format", choices=(AUTO, *PROMPT_FORMATS), default=AUTO,
                       help="auto: plain for .txt, else custom (default)")
    group.add_argument("--fields", metavar="prompt=A,id=B,category=C", help="names of the fields in the custom format")
    group.add_argument("--set-name", metavar="NAME", help="first part of every record's id (default: the file's name)")
    group.add_argument("--limit", type=int, metavar="N", help="only the first N rows")
    group.add_argument("--keywords", metavar="FILE", help="keywords of your own for some or all prompts: JSON lines "
                       '{"id": "7", "keywords": ["sofa", "plate"]}, by the id in the prompt file')
    group.add_argument("--dedupe", action="store_true",
                       help="of rows with the same prompt, take the first; the others are listed in OUT/rejects")
    group.add_argument("--on-error", choices=("stop", "skip"), default="stop",
                       help="rows that cannot be used: stop before anything is generated (default), or leave them out, "
                            "list them in OUT/rejects")
    group.add_argument("--max-reject-rate", type=float, default=0.2, metavar="SHARE",
                       help="with --on-error skip: exit with 3 if a larger share of the rows cannot be used (default: "
                            "%(default)s)")

    group = parser.add_argument_group("images")
    group.add_argument("--num-candidates", type=int, default=1, metavar="K", help="images per prompt (default: 1)")
    group.add_argument("--base-seed", type=int, default=42, help="every image's seed follows from this and its id "
                                                                 "(default: 42)")
    group.add_argument("--size", type=parse_size, metavar="HxW", help="height and width in pixels (default: the "
                       "model's, 1024x1024 for BAGEL; edits keep the size of their picture)")
    group.add_argument("--height", type=int, metavar="PIXELS", help="the same, with --width")
    group.add_argument("--width", type=int, metavar="PIXELS")
    group.add_argument("--image-format", choices=tuple(IMAGE_FORMATS), default="png",
                       help="png and webp keep every pixel; jpeg does not (default: png)")
    group.add_argument("--crop-black-border", action=_FLAG, default=False, help="as the authors' code does")

    group = parser.add_argument_group("sampling", "Defaults are the published settings: those of text-to-image for "
                                      "prompts alone, those of editing for prompts with a picture.")
    group.add_argument("--think", action=_FLAG, default=False, help="write a plan first")
    group.add_argument("--max-plan-tokens", type=int, metavar="N", help="with --think (default: 1000)")
    group.add_argument("--plan-temperature", type=float, metavar="T", help="with --think (default: greedy)")
    group.add_argument("--num-timesteps", type=int, metavar="N", help="points in time, one more than steps (50)")
    group.add_argument("--guidance-scale", type=float, metavar="S", help="of the text (4)")
    group.add_argument("--image-guidance-scale", type=float, metavar="S", help="of the picture (editing: 2; else off)")
    group.add_argument("--guidance-interval", type=float, nargs=2, metavar=("LOW", "HIGH"),
                       help="guided where LOW < t <= HIGH, t = 1 is noise (0.4 1; editing: 0 1)")
    group.add_argument("--timestep-shift", type=float, metavar="S", help="above 1, more steps near noise (3)")
    group.add_argument("--renorm", choices=RENORM_NAMES,
                       help="what bounds the guided velocity's norm (global; editing: text_channel)")
    group.add_argument("--renorm-min", type=float, metavar="X", help="the least factor of renorm (0)")

    group = parser.add_argument_group("output")
    group.add_argument("--out", required=True, metavar="DIR", help="new, or begun by the same command")
    group.add_argument("--batch-size", type=int, default=8, metavar="B", help="images made together (default: 8)")
    group.add_argument("--num-shards", type=int, default=16, metavar="N", help="folders that the images are spread "
                                                                               "over (default: 16)")
    group.add_argument("--repair", action="store_true", help="make again what was changed; it goes to OUT/old, and so "
                                                             "does what later stages made of it")
    group.add_argument("--dry-run", action="store_true", help="check everything, print counts, generate nothing")

    add_process_arguments(parser)


def parse_size(text: str) -> tuple[int, int]:
    """Height and width of "HxW".

    Raises:
      argparse.ArgumentTypeError: it is not of this form.
    """
    found = re.fullmatch(r"(\d{1,9})x(\d{1,9})", text)
    if not found:
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH in pixels, such as 1024x768, found {text!r}")
    return int(found[1]), int(found[2])


def settings_of(args: argparse.Namespace) -> GenerationSettings:
    """The settings that parsed arguments stand for.

    Raises:
      ValueError: naming the field, what was expected and what was found.
    """
    height, width = args.height, args.width
    if args.size is not None:
        if height is not None or width is not None:
            raise ValueError("--size: expected either it, or --height and --width, found both.")
        height, width = args.size
    plan = None
    given = {"max_tokens": args.max_plan_tokens, "temperature": args.plan_temperature}
    given = {name: value for name, value in given.items() if value is not None}
    if args.think:
        plan = TextSampler(**given)
    elif given:
        raise ValueError("--max-plan-tokens, --plan-temperature: expected --think with them, found no --think.")
    return GenerationSettings(
        num_candidates=args.num_candidates, base_seed=args.base_seed, height=height, width=width,
        batch_size=args.batch_size, num_shards=args.num_shards, text_to_image=_changed(TEXT_TO_IMAGE, args),
        editing=_changed(EDITING, args), plan=plan, image_format=args.image_format,
        crop_black_border=args.crop_black_border, dtype=args.dtype, attention=args.attention,
    )


def _changed(sampler: FlowSampler, args: argparse.Namespace) -> FlowSampler:
    def given(**values):
        return {name: value for name, value in values.items() if value is not None}

    guidance = dataclasses.replace(sampler.guidance, **given(
        text_scale=args.guidance_scale, image_scale=args.image_guidance_scale, interval=args.guidance_interval,
        renorm=args.renorm, renorm_min=args.renorm_min,
    ))
    return dataclasses.replace(sampler, guidance=guidance,
                               **given(num_timesteps=args.num_timesteps, shift=args.timestep_shift))
