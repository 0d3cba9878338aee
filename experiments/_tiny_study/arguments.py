"""What the commands of both studies take on their command lines."""

import argparse
import dataclasses
from collections.abc import Sequence

from experiments._argument_types import local_folder
from experiments._tiny_study.errors import SettingsError
from experiments._tiny_study.settings import StudySettings
from experiments._tiny_study.work import default_jobs
from srum_jax.command_line import in_range

EXIT_CODES = """
exit codes:
  0    done
  1    a step failed; the same command goes on
  2    the arguments or the folder cannot be used
  130  interrupted; the same command goes on
"""
_NOT_A_NUMBER = ("candidate_guidance", "guidance", "new_sentences", "think")  # fields of the settings


def add_study_arguments(parser: argparse.ArgumentParser, whole: StudySettings, quick: StudySettings) -> None:
    """The folder, the processes, and every number of a study's size."""
    parser.add_argument("--out", required=True, type=local_folder, metavar="DIR",
                        help="new, or begun by the same command")
    parser.add_argument("--quick", action="store_true", help="few models, small, in some minutes")
    parser.add_argument("--jobs", type=in_range(int, 1), metavar="N", default=default_jobs(),
                        help="models trained or examined at the same time, each on its share of the cores "
                             "(default: one for each core and 2 GiB of memory, %(default)s here)")
    for name in _numbers():
        value = getattr(whole, name)
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), metavar="N",
                            help=f"default: {value:g}, quick: {getattr(quick, name):g}")


def given_numbers(args: argparse.Namespace) -> dict[str, float]:
    """What the command line says of a study's size."""
    return {name: getattr(args, name) for name in _numbers() if getattr(args, name) is not None}


def chosen_names(option: str, text: str, known: Sequence[str]) -> list[str]:
    """Names from a list with commas.

    Raises:
      SettingsError: one is not known, or comes twice.
    """
    names = text.split(",")
    unknown = [name for name in names if name not in known]
    if len(set(names)) < len(names):
        raise SettingsError(f"{option}: expected different names, found {text}.")
    if unknown:
        raise SettingsError(f"{option}: expected names among {', '.join(known)}, found {', '.join(unknown)}.")
    return names


def _numbers() -> list[str]:
    return [field.name for field in dataclasses.fields(StudySettings) if field.name not in _NOT_A_NUMBER]
