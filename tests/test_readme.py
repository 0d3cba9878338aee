"""The commands and links of the README and the docs exist."""

import contextlib
import functools
import importlib
import importlib.util
import io
import pathlib
import re
import shlex

import pytest

from tests import commands

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def _code_lines(page):
    blocks = re.findall(r"^```\w*\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def _module_commands():
    """Arguments of every `python -m ...` in a code block, each with the page it is in."""
    commands = {}
    for page in PAGES:
        for line in _code_lines(page):
            if line.startswith("python -m "):
                words = tuple(shlex.split(line, comments=True)[2:])
                commands.setdefault(words, page.name)
    return commands


COMMANDS = _module_commands()


@functools.cache
def _help(module, *subcommand):
    """Output of `python -m module subcommand --help`; what is ours and importable answers in this process."""
    if module.startswith("benchmarks."):
        return commands.run(module, *subcommand, "--help")
    name = module if importlib.util.find_spec(module).submodule_search_locations is None else f"{module}.__main__"
    output = io.StringIO()
    with contextlib.redirect_stdout(output), pytest.raises(SystemExit) as exit_:
        importlib.import_module(name).main([*subcommand, "--help"])
    return commands.Finished(exit_.value.code, output.getvalue(), "")


_OURS = ("srum_jax.", "tools.", "benchmarks.", "experiments.")
TESTS = "python -m pytest -n 2 --dist loadfile"


def test_the_readme_names_the_two_commands():
    assert ("experiments.tiny_methods", "--quick", "--out", "runs/quick") in COMMANDS
    assert ("srum_jax.train", "--experiment=tiny", "--workdir", "runs/tiny") in COMMANDS
    assert tuple(TESTS.split()[2:]) in COMMANDS


def test_the_ci_script_runs_the_test_command_of_the_readme():
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert TESTS in lines and "ruff check" in lines


# Ours only; the subcommand, if there is one, is asked for its own help.
_HELP = sorted(
    {
        (
            module,
            *(
                word
                for word in rest[:1]
                if not word.startswith("-") and module.startswith("tools.") and not module.endswith("check_parity")
            ),
        )
        for module, *rest in COMMANDS
        if module.startswith(_OURS)
    }
)


@pytest.mark.parametrize("command", _HELP, ids=" ".join)
def test_every_documented_command_answers_help(command):
    code, out, err = _help(*command)
    assert code == 0 and "usage:" in out, err


@pytest.mark.parametrize("command", sorted(COMMANDS), ids=" ".join)
def test_every_documented_option_exists(command):
    module, *rest = command
    if module.startswith(_OURS):
        subcommand = [word for word in rest[:1] if not word.startswith("-")]
        text = _help(module).out
        if subcommand and module != "tools.check_parity":
            text += _help(module, *subcommand).out
        options = {word.split("=")[0] for word in rest if word.startswith("--")}
        assert not {option for option in options if not re.search(rf"{re.escape(option)}\b", text)}
    else:
        assert importlib.util.find_spec(module) is not None


def test_every_documented_experiment_is_there():
    names = {re.split("[=:]", word)[1] for words in COMMANDS for word in words if word.startswith("--experiment=")}
    names |= set(re.findall(r"`(bagel\w*)`", (ROOT / "README.md").read_text()))
    missing = {
        name for name in names if not name.endswith(".py") and not (ROOT / "experiments" / f"{name}.py").exists()
    }
    assert names and not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert not missing


def test_every_folder_of_the_annotated_tree_exists():
    tree = re.search(r"## Where things are\n\n```\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    parent, missing = ROOT, []
    for line in tree.splitlines():
        names = [name for name in line[:30].split() if name]
        base = ROOT if not line.startswith(" ") else parent
        for name in names:
            missing += [] if (base / name).exists() else [name]
        if not line.startswith(" ") and names == ["srum_jax/"]:
            parent = ROOT / "srum_jax"
    assert not missing


def test_every_docs_page_is_in_the_index():
    index = (ROOT / "docs" / "README.md").read_text()
    assert all(f"({page.name})" in index for page in (ROOT / "docs").glob("*.md") if page.name != "README.md")


def test_setup_py_states_the_version_and_licence():
    setup = (ROOT / "setup.py").read_text()
    assert 'name="srum-jax"' in setup and 'license="Apache-2.0"' in setup
    assert "Apache License" in (ROOT / "LICENSE").read_text()
