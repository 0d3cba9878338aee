"""Makes and checks the records that reward-weighted training reads.

Each subcommand lives in a module of its own with `add_arguments(parser)` and `run(arguments) -> exit code`.
"""

import argparse
import signal
import sys
from collections.abc import Sequence

from srum_jax.data.errors import DataError
from srum_jax.generation.output_folder import DamagedError
from srum_jax.generation.run_file import RunChangedError
from tools.make_rewards import export, import_jsonl, judge, segment, verify
from tools.make_rewards.errors import ArgumentError
from tools.make_rewards.judge import NonFiniteJudgeError

_COMMANDS = {
    "segment": segment,
    "judge": judge,
    "export": export,
    "import-jsonl": import_jsonl,
    "verify": verify,
}

_EPILOG = """
examples:
  python -m srum_jax.generate --checkpoint BAGEL-7B-MoT --prompts train_comp.json --prompt-format t2i_compbench \\
      --think --out runs/comp
  python -m tools.make_rewards segment --out runs/comp --sam-model sam-vit-huge
  python -m tools.make_rewards judge --out runs/comp --checkpoint BAGEL-7B-MoT
  python -m tools.make_rewards export --out runs/comp
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
    previous = signal.signal(signal.SIGTERM, _interrupt)  # so that a preempted run tidies up like an interrupted one
    try:
        return _COMMANDS[arguments.command].run(arguments)
    except (ArgumentError, RunChangedError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (DataError, DamagedError, NonFiniteJudgeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; what was committed is kept, give the same command again to go on", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, previous)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
