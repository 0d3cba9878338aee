"""Complete evaluations of several models, as the tables of the paper's figures name them: NAME=DIR."""

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from etils import epath

from srum_jax.command_line import set_up_streams, user_path
from srum_jax.errors import BadInput
from srum_jax.evaluation.benchmark import OVERALL, Benchmark
from srum_jax.evaluation.folder import EvaluationFolder
from srum_jax.evaluation.registry import open_benchmark
from srum_jax.evaluation.scoring import compare, read_scores
from srum_jax.stages import noted
from srum_jax.stages.interruption import run_command


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One model's, which is complete."""

    folder: EvaluationFolder
    benchmark: Benchmark
    results: Mapping[str, Any]  # contents of its results.json

    def against(self, other: "Evaluation") -> dict[str, Any]:
        """Differences to another, by total; see `compare`."""
        items = self.benchmark.items(self.folder.inputs())
        return compare(self.benchmark, items, self.results, read_scores(self.folder.root), other.folder.results)


def read_evaluations(results: Sequence[str]) -> dict[str, Evaluation]:
    """By name.

    Args:
      results: NAME=DIR of each model.

    Raises:
      BadInput: a name stands there twice, or a result is absent or incomplete.
    """
    found: dict[str, Evaluation] = {}
    for text in results:
        name, equals, path = text.partition("=")
        if not equals or not path or name in found:
            raise BadInput(f"{text}: expected NAME=DIR, each name once.")
        folder = EvaluationFolder(epath.Path(user_path(path)))
        about = folder.begun_with()
        if not folder.results.exists():
            raise BadInput(f"{folder.results}: expected what `--stage score` writes, found nothing.")
        contents = noted.read(folder.results, "NAME=DIR")
        if contents["scores"][OVERALL] is None:
            raise BadInput(f"{folder.results}: incomplete, so there is no overall number; finish the evaluation of "
                           f"{name}.")
        benchmark = open_benchmark(about["benchmark"], about["protocol"], "", about["drawn_as"])
        found[name] = Evaluation(folder, benchmark, contents)
    return found


def print_table(
    table: Callable[[Sequence[str]], str], argv: Sequence[str] | None, *, prog: str, description: str | None, names: str
) -> int:
    """The command line of a table of evaluations; returns the exit code.

    Args:
      table: makes it of NAME=DIR of each model.
      argv: arguments; None: those of the process.
      prog, description: what `--help` says of the command.
      names: what it says of the names.
    """
    parser = argparse.ArgumentParser(prog=prog, description=description,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", metavar="NAME=DIR", help=f"a model and its evaluation; {names}")
    arguments = parser.parse_args(argv)
    set_up_streams()
    return run_command(lambda: print(table(arguments.results)))
