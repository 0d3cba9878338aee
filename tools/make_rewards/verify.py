"""Proves that records are whole: checksums, indexes, sidecars, counts, unique ids, and every record by the schema.

Of a whole run (a folder with run.json) it also proves that every prompt and candidate is accounted for once: exported,
or rejected with a reason. Reads every byte once. Each difference is printed; the exit code is 1 if there is any.
"""

import argparse
import sys
from collections.abc import Iterator

from etils import epath

from srum_jax.command_line import user_path
from srum_jax.data.records_source import find_records, read_manifest
from srum_jax.errors import BadInput
from tools.make_rewards.verify_records import verify_records
from tools.make_rewards.verify_run import verify_run

SUMMARY = "prove that a run, or a directory of records, is whole"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("directory", type=user_path, metavar="DIR",
                        help="the --out of a run, or a folder that holds manifest.json")


def run(arguments: argparse.Namespace) -> int:
    """The subcommand; returns the exit code."""
    directory = epath.Path(arguments.directory)
    if not directory.is_dir():
        raise BadInput(f"{directory}: no such directory.")
    whole_run = (directory / "run.json").exists()
    if print_problems(verify_run(directory) if whole_run else verify_records(directory), directory):
        return 1
    manifest = read_manifest(find_records(directory))
    accounted = "; all prompts and candidates are accounted for once" if whole_run else ""
    print(f"{directory}: {manifest.num_records} records in {manifest.num_shards} shards, "
          f"{manifest.num_bytes} bytes: all checksums, ids and counts hold{accounted}")
    return 0


def print_problems(problems: Iterator[str], directory: epath.Path) -> int:
    """Prints them as they come; returns how many there were."""
    count = 0
    for problem in problems:
        count += 1
        print(problem, file=sys.stderr)
    if count:
        print(f"error: {count} problems in {directory}", file=sys.stderr)
    return count
