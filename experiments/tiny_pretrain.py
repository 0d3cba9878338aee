"""Trains a base of the shapes world from nothing: what turns pictures into tokens, then understanding and generation.

The generator learns from crisp pictures of which a known share does not fit its caption, the judge from right answers:
pictures come out well formed and often wrong, and the model can tell. That is the gap that self-improvement closes.
"""

import argparse
import sys
from collections.abc import Sequence

from experiments._argument_types import count
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
from srum_jax.command_line import user_path
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


# What each base takes for the numbers below, in the order encoder, decoder, joint.
_STEPS = {"bagel": (ENCODER_STAGE.steps, DECODER_STAGE.steps, JointSettings.steps),
          "janus": (CodesSettings.steps, PixelsSettings.steps, JanusJointSettings.steps)}
# What has one base alone, and how many pictures the first two stages of each learn from.
_OWN_STEPS = {"generator_steps": ("bagel", GeneratorSettings.steps), "judge_steps": ("janus", JanusJudgeSettings.steps)}
PICTURES = {"bagel": 16000, "janus": 6000}
_STAGES = {"bagel": PRETRAINING_STAGES, "janus": JANUS_STAGES}


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.tiny_pretrain", description=__doc__, epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=user_path, required=True, help="directory of the run")
    parser.add_argument("--base", choices=tuple(_STAGES), default="bagel", help="which one (default: %(default)s)")
    parser.add_argument("--seed", type=count, default=0, help="of everything (default: %(default)s)")
    for place, (field, what) in enumerate((("encoder_steps", "of what turns pictures into latents or codes"),
                                          ("decoder_steps", "of what turns these into pictures"),
                                          ("steps", "of joint training"))):
        defaults = ", ".join(f"{name} {steps[place]}" for name, steps in _STEPS.items())
        parser.add_argument(f"--{field.replace('_', '-')}", type=count, help=f"{what} (default: {defaults})")
    parser.add_argument("--generator-steps", type=count,
                        help=f"of BAGEL's generation expert alone (default: {GeneratorSettings.steps})")
    parser.add_argument("--judge-steps", type=count,
                        help=f"of Janus-Pro's further questions (default: {JanusJudgeSettings.steps})")
    parser.add_argument("--wrong-captions", type=float, default=SampleSettings.wrong_captions,
                        help="share of captions that are wrong (default: %(default)s)")
    parser.add_argument("--pictures", type=count, help="that the first two learn from (default: "
                        + ", ".join(f"{name} {number}" for name, number in PICTURES.items()) + ")")
    parser.add_argument("--save-seconds", type=float, default=60.0, help="between two saved states")
    parser.add_argument("--stage", choices=tuple(dict.fromkeys((*PRETRAINING_STAGES, *JANUS_STAGES))),
                        help="run this one only, the stages before it being done")
    parser.add_argument("--unfinished", action="store_true",
                        help="with --stage export: take every stage as far as it has come")
    parser.add_argument("--images", type=count, default=400, help="to measure the base with; 0 for none")
    arguments = parser.parse_args(argv)
    if not 0 <= arguments.wrong_captions <= 1:
        parser.error(f"--wrong-captions: expected a share in [0, 1], found {arguments.wrong_captions}.")
    if arguments.unfinished and arguments.stage != "export":
        parser.error("--unfinished: expected --stage export with it.")
    if arguments.stage not in (None, *_STAGES[arguments.base]):
        parser.error(f"--stage: expected one of {', '.join(_STAGES[arguments.base])} for {arguments.base}, found "
                     f"{arguments.stage}.")
    defaults = dict(zip(("encoder_steps", "decoder_steps", "steps"), _STEPS[arguments.base], strict=True))
    defaults["pictures"] = PICTURES[arguments.base]
    for field, (base, steps) in _OWN_STEPS.items():
        if getattr(arguments, field) is not None and arguments.base != base:
            parser.error(f"--{field.replace('_', '-')}: expected it with --base {base} alone.")
        defaults[field] = steps
    for field, default in defaults.items():
        if getattr(arguments, field) is None:
            setattr(arguments, field, default)
    # Imports JAX, which takes seconds.
    if arguments.base == "bagel":
        from experiments._tiny_bagel.pretraining import run_stages
    else:
        from experiments._tiny_janus.pretraining import run_stages

    return run_command(lambda: run_stages(arguments))


if __name__ == "__main__":
    sys.exit(main())
