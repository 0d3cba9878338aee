"""Makes and checks the records that reward-weighted training reads.

Each subcommand lives in a module of its own with `add_arguments(parser)` and `run(arguments)`; that returns an exit
code, or nothing for 0.
"""

import argparse
import sys
from collections.abc import Sequence

from srum_jax import generate
from srum_jax.command_line import set_up_streams
from srum_jax.stages.interruption import run_command
from tools.make_rewards import (
    export,
    import_generated,
    import_jsonl,
    judge,
    likelihood,
    parse,
    report,
    run,
    segment,
    select,
    verify,
)

_COMMANDS = {
    "run": run,
    "generate": generate,
    "segment": segment,
    "likelihood": likelihood,
    "judge": judge,
    "parse": parse,
    "export": export,
    "select": select,
    "import-generated": import_generated,
    "import-jsonl": import_jsonl,
    "verify": verify,
    "report": report,
}

_EPILOG = """
examples:
  python -m tools.make_rewards run --experiment tiny --out runs/tiny
  python -m tools.make_rewards run --experiment bagel_cot --checkpoint BAGEL-7B-MoT --sam-model sam-vit-huge \\
      --prompts train_comp.json --out runs/comp
  python -m tools.make_rewards generate --checkpoint BAGEL-7B-MoT --prompts train_comp.json \\
      --prompt-format t2i_compbench --think --out runs/comp
  python -m tools.make_rewards segment --out runs/comp --sam-model sam-vit-huge
  python -m tools.make_rewards segment --out runs/blip3o --provider grounding --checkpoint BLIP3o-Model-8B
  python -m tools.make_rewards judge --out runs/comp --checkpoint BAGEL-7B-MoT
  python -m tools.make_rewards judge --out runs/comp --checkpoint BAGEL-7B-MoT --mode questions
  python -m tools.make_rewards likelihood --out runs/comp --checkpoint BAGEL-7B-MoT
  python -m tools.make_rewards judge --out runs/comp --judge likelihood
  python -m tools.make_rewards parse replies.jsonl
  python -m tools.make_rewards export --out runs/comp
  python -m tools.make_rewards select --records runs/comp/export --out runs/best --best --least 0.5
  python -m tools.make_rewards report runs/comp --out report
  python -m tools.make_rewards import-jsonl --jsonl srum.jsonl --images images/ --out records/ --name srum-rewards
  python -m tools.make_rewards verify records/

exit codes:
  0    done
  1    failed; nothing is left behind that would load, and the same command goes on
  2    bad arguments or input
  3    done, but more records were rejected than --max-reject-rate allows
  130  interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.make_rewards", description=__doc__, epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module in _COMMANDS.items():
        command = commands.add_parser(name, help=module.SUMMARY, description=module.__doc__, epilog=_EPILOG,
                                      formatter_class=argparse.RawDescriptionHelpFormatter)
        module.add_arguments(command)
    arguments = parser.parse_args(argv)
    set_up_streams()
    return run_command(lambda: _COMMANDS[arguments.command].run(arguments))


if __name__ == "__main__":
    sys.exit(main())
