"""The command-line arguments of generation, and the settings that they stand for."""

import argparse
import re
from typing import Any

from srum_jax.command_line import in_range, user_path
from srum_jax.errors import BadInput
from srum_jax.families.registry import samplers
from srum_jax.generation.prompt_formats import AUTO
from srum_jax.generation.prompt_formats import FORMATS as PROMPT_FORMATS
from srum_jax.generation.run_settings import GenerationSettings, OutputSettings
from srum_jax.inference.settings import TextSampler
from srum_jax.overrides import add_set_argument, apply_overrides, together
from srum_jax.stages.processes import add_process_arguments


def add_generation_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the groups "prompts", "images", "output", "processes" and "settings"."""
    group = parser.add_argument_group("prompts")
    source = group.add_mutually_exclusive_group(required=True)
    source.add_argument("--prompts", type=user_path, metavar="FILE",
                        help="JSON lines, a JSON array, a table (.csv, .tsv) or plain text")
    source.add_argument("--prompt", action="append", metavar="TEXT", help="a prompt itself; repeatable")
    group.add_argument("--prompt-format", choices=(AUTO, *PROMPT_FORMATS), default=AUTO,
                       help="auto: plain for .txt without JSON, else what the rows look like (default)")
    group.add_argument("--fields", metavar="prompt=A,id=B,category=C", help="names of the fields in the custom format")
    group.add_argument("--set-name", metavar="NAME", help="first part of every record's id (default: the file's name)")
    group.add_argument("--limit", type=in_range(int, 1), metavar="N", help="only the first N rows")
    group.add_argument("--keywords", type=user_path, metavar="FILE",
                       help="keywords of your own for some or all prompts: JSON lines "
                            '{"id": "7", "keywords": ["sofa", "plate"]}, by the id in the prompt file')
    group.add_argument("--dedupe", action="store_true",
                       help="of rows with the same prompt, take the first; the others are listed in OUT/rejects")
    group.add_argument("--on-error", choices=("stop", "skip"), default="stop",
                       help="rows that cannot be used: stop before anything is generated (default), or leave them out, "
                            "list them in OUT/rejects")
    group.add_argument("--max-reject-rate", type=in_range(float, 0, 1), default=0.2, metavar="SHARE",
                       help="with --on-error skip: exit with 3 if a larger share of the rows cannot be used (default: "
                            "%(default)s)")

    group = parser.add_argument_group("images")
    group.add_argument("--num-candidates", type=int, default=1, metavar="K", help="images per prompt (default: 1)")
    group.add_argument("--base-seed", type=int, default=42, help="every image's seed follows from this and its id "
                                                                 "(default: 42)")
    group.add_argument("--size", type=parse_size, metavar="HxW", help="height and width in pixels (default: the "
                       "model's; edits keep the size of their picture)")
    group.add_argument("--think", action=argparse.BooleanOptionalAction, default=False, help="write a plan first")

    group = parser.add_argument_group("output")
    group.add_argument("--out", type=user_path, required=True, metavar="DIR", help="new, or begun by the same command")
    group.add_argument("--batch-size", type=int, default=8, metavar="B", help="images made together (default: 8)")
    group.add_argument("--repair", action="store_true", help="make again what was changed; it goes to OUT/old, and so "
                                                             "does what later stages made of it")
    group.add_argument("--dry-run", action="store_true", help="check everything, print counts, generate nothing")

    add_process_arguments(parser)
    first, *others = samplers().values()
    add_set_argument(parser, _groups(first), *(together(sampler=sampler) for sampler in others))


def parse_size(text: str) -> tuple[int, int]:
    """Height and width of "HxW".

    Raises:
      argparse.ArgumentTypeError: it is not of this form.
    """
    found = re.fullmatch(r"(\d{1,9})x(\d{1,9})", text)
    if not found:
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH in pixels, such as 1024x768, found {text!r}")
    return int(found[1]), int(found[2])


def settings_of(args: argparse.Namespace, sampler: Any) -> GenerationSettings:
    """The settings that parsed arguments stand for.

    Args:
      args: from `add_generation_arguments` and `add_model_arguments`.
      sampler: the published settings of the checkpoint's family.

    Raises:
      BadInput: naming the field, what was expected and what was found.
    """
    chosen = apply_overrides(_groups(sampler), args.set)
    if chosen.plan is not None and not args.think:
        raise BadInput("--set plan.*: expected --think with it, found no --think.")
    height, width = args.size or (None, None)
    return GenerationSettings(
        num_candidates=args.num_candidates, base_seed=args.base_seed, height=height, width=width,
        batch_size=args.batch_size, sampler=chosen.sampler, plan=(chosen.plan or TextSampler()) if args.think else None,
        output=chosen.output, dtype=args.dtype, attention=args.attention, control_tokens=args.control_tokens,
        quantize=args.quantize,
    )


def _groups(sampler: Any) -> Any:
    return together(sampler=sampler, plan=TextSampler, output=OutputSettings())
