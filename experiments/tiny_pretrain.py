"""Trains the base of the shapes world from nothing: autoencoder, then understanding and generation together.

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
from srum_jax.command_line import user_path
from srum_jax.stages.interruption import run_command

_EPILOG = """
examples:
  python -m experiments.tiny_pretrain --out runs/tiny_base
  python -m experiments.tiny_pretrain --out runs/tiny_base --stage encoder     # stages one by one; after the encoder,
  python -m experiments.tiny_pretrain --out runs/tiny_base --stage decoder &   # decoder and joint may run side by side
  python -m experiments.tiny_pretrain --out runs/tiny_base --stage joint
  python -m experiments.tiny_pretrain --out runs/tiny_base --stage generator

The checkpoint appears as OUT/base. An interrupted run goes on where it stopped when it is started again.

exit codes:
  0    done
  1    failed
  2    bad arguments, or OUT belongs to a run with other settings
  130  interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.tiny_pretrain", description=__doc__, epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=user_path, required=True, help="directory of the run")
    parser.add_argument("--seed", type=count, default=0, help="of everything (default: %(default)s)")
    parser.add_argument("--steps", type=count, default=JointSettings.steps,
                        help="of joint training (default: %(default)s)")
    parser.add_argument("--generator-steps", type=count, default=GeneratorSettings.steps,
                        help="of the generation expert alone (default: %(default)s)")
    parser.add_argument("--encoder-steps", type=count, default=ENCODER_STAGE.steps,
                        help="default: %(default)s")
    parser.add_argument("--decoder-steps", type=count, default=DECODER_STAGE.steps,
                        help="default: %(default)s")
    parser.add_argument("--wrong-captions", type=float, default=SampleSettings.wrong_captions,
                        help="share of captions that are wrong (default: %(default)s)")
    parser.add_argument("--pictures", type=count, default=16000, help="that the autoencoder learns from")
    parser.add_argument("--save-seconds", type=float, default=60.0, help="between two saved states")
    parser.add_argument("--stage", choices=PRETRAINING_STAGES,
                        help="run this one only, the stages before it being done")
    parser.add_argument("--unfinished", action="store_true",
                        help="with --stage export: take every stage as far as it has come")
    parser.add_argument("--images", type=count, default=400, help="to measure the base with; 0 for none")
    arguments = parser.parse_args(argv)
    if not 0 <= arguments.wrong_captions <= 1:
        parser.error(f"--wrong-captions: expected a share in [0, 1], found {arguments.wrong_captions}.")
    if arguments.unfinished and arguments.stage != "export":
        parser.error("--unfinished: expected --stage export with it.")
    # Imports JAX, which takes seconds.
    from experiments._tiny_bagel.pretraining import run_stages

    return run_command(lambda: run_stages(arguments))


if __name__ == "__main__":
    sys.exit(main())
