"""Trains a base of the shapes world from nothing: what turns pictures into tokens, then understanding and generation.

The generator learns from crisp pictures of which a known share does not fit its caption, the judge from right answers:
pictures come out well formed and often wrong, and the model can tell. That is the gap that self-improvement closes.
"""

import argparse
import sys
from collections.abc import Sequence

from experiments._tiny_bagel.settings import (
    DECODER_STAGE,
    ENCODER_STAGE,
    PRETRAINING_STAGES,
    GeneratorSettings,
    JointSettings,
    SampleSettings,
)
from experiments._tiny_janus.settings import (
    JANUS_STAGES,
    CodesSettings,
    JanusJointSettings,
    JanusJudgeSettings,
    PixelsSettings,
)
from srum_jax.command_line import in_range, user_path
from srum_jax.stages.interruption import run_command

_EPILOG = """
examples:
  python -m experiments.tiny_pretrain --out runs/tiny_base
  python -m experiments.tiny_pretrain --out runs/tiny_base --stage encoder     # stages one by one; after the encoder,
  python -m experiments.tiny_pretrain --out runs/tiny_base --stage decoder &   # decoder and joint may run side by side
  python -m experiments.tiny_pretrain --out runs/tiny_base --stage joint
  python -m experiments.tiny_pretrain --out runs/tiny_base --stage generator

  python -m experiments.tiny_pretrain --base janus --out runs/tiny_janus
  python -m experiments.tiny_pretrain --base janus --out runs/tiny_janus --stage codes   # pixels, joint, judge, export

The checkpoint appears as OUT/base. An interrupted run goes on where it stopped when it is started again.

exit codes:
  0    done
  1    failed
  2    bad arguments, or OUT belongs to a run with other settings
  130  interrupted
"""

_STAGES = {"bagel": PRETRAINING_STAGES, "janus": JANUS_STAGES}
PICTURES = {"bagel": 16000, "janus": 6000}
# What each is, and what it is by default for the bases that have it.
_NUMBERS = {
    "encoder_steps": ("of what turns pictures into latents or codes",
                      {"bagel": ENCODER_STAGE.steps, "janus": CodesSettings.steps}),
    "decoder_steps": ("of what turns these into pictures",
                      {"bagel": DECODER_STAGE.steps, "janus": PixelsSettings.steps}),
    "steps": ("of joint training", {"bagel": JointSettings.steps, "janus": JanusJointSettings.steps}),
    "generator_steps": ("of the generation expert alone", {"bagel": GeneratorSettings.steps}),
    "judge_steps": ("of further questions", {"janus": JanusJudgeSettings.steps}),
    "pictures": ("that the first two learn from", PICTURES),
}


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.tiny_pretrain", description=__doc__, epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=user_path, required=True, help="directory of the run")
    parser.add_argument("--base", choices=tuple(_STAGES), default="bagel", help="which one (default: %(default)s)")
    parser.add_argument("--seed", type=in_range(int, 0), default=0, help="of everything (default: %(default)s)")
    for name, (what, defaults) in _NUMBERS.items():
        shown = ", ".join(f"{base} {number}" for base, number in defaults.items())
        parser.add_argument(_option(name), type=in_range(int, 0), help=f"{what} (default: {shown})")
    parser.add_argument("--wrong-captions", type=in_range(float, 0, 1), default=SampleSettings.wrong_captions,
                        help="share of captions that are wrong (default: %(default)s)")
    parser.add_argument("--save-seconds", type=float, default=60.0, help="between two saved states")
    parser.add_argument("--stage", choices=tuple(dict.fromkeys((*PRETRAINING_STAGES, *JANUS_STAGES))),
                        help="run this one only, the stages before it being done")
    parser.add_argument("--unfinished", action="store_true",
                        help="with --stage export: take every stage as far as it has come")
    parser.add_argument("--images", type=in_range(int, 0), default=400, help="to measure the base with; 0 for none")
    arguments = parser.parse_args(argv)
    if arguments.unfinished and arguments.stage != "export":
        parser.error("--unfinished: expected --stage export with it.")
    if arguments.stage not in (None, *_STAGES[arguments.base]):
        parser.error(f"--stage: expected one of {', '.join(_STAGES[arguments.base])} for {arguments.base}, found "
                     f"{arguments.stage}.")
    for name, (_, defaults) in _NUMBERS.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, defaults.get(arguments.base))
        elif arguments.base not in defaults:
            parser.error(f"{_option(name)}: expected it with --base {' or '.join(defaults)} alone.")
    # Imports JAX, which takes seconds.
    if arguments.base == "bagel":
        from experiments._tiny_bagel.pretraining import Run
    else:
        from experiments._tiny_janus.pretraining import Run

    return run_command(lambda: Run(arguments).run())


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


if __name__ == "__main__":
    sys.exit(main())
