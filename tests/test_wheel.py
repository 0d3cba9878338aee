"""What `pip install` of a wheel puts into a user's site-packages: one package, in which everything is found."""

import os
import re
import shutil
import subprocess
import sys
import zipfile

import pytest

from tests.imports import ROOT

pytestmark = pytest.mark.slow
BESIDE = ("tools", "experiments")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with the wheel's files, as pip would unpack them."""
    work = tmp_path_factory.mktemp("wheel")
    for folder in ("srum_jax", *BESIDE):
        shutil.copytree(ROOT / folder, work / "source" / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, work / "source")
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
                    "--wheel-dir", work, work / "source"], check=True)
    (wheel,) = work.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(work / "site")
    return work / "site"


def python(site, cwd, *arguments):
    """Runs an interpreter that sees the wheel, and of the checkout nothing: -S leaves out what is installed with -e."""
    others = [path for path in sys.path if path.endswith("site-packages")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), *others])}
    return subprocess.run([sys.executable, "-S", *arguments], cwd=cwd, env=environment, text=True, capture_output=True,
                          check=False)


def test_it_is_one_package(site):
    assert {path.name for path in site.iterdir() if path.suffix != ".dist-info"} == {"srum_jax"}
    (metadata,) = site.glob("*.dist-info")
    assert (metadata / "top_level.txt").read_text() == "srum_jax\n"


def test_every_module_of_tools_and_experiments_is_in_it(site):
    for name in BESIDE:
        modules = {path.relative_to(ROOT / name) for path in (ROOT / name).rglob("*.py")}
        inside = {path.relative_to(site / "srum_jax" / name) for path in (site / "srum_jax" / name).rglob("*.py")}
        assert {module for module in modules if module.parts[0] != "build_docs"} == inside


def test_no_file_names_them_as_they_are_called_in_a_checkout(site):
    modules = {path.stem for name in BESIDE for path in (site / "srum_jax" / name).iterdir()}
    old = re.compile(rf"(?<![\w./-])({'|'.join(BESIDE)})(?:\.(?:{'|'.join(modules)})\b| import )")
    assert not [(path.name, found[0]) for path in site.rglob("*.py") if (found := old.search(path.read_text()))]


def test_a_users_own_packages_of_these_names_are_left_alone(site, tmp_path):
    for name in BESIDE:
        (tmp_path / f"{name}.py").write_text("MINE = True\n")
    found = python(site, tmp_path, "-c", "import experiments, tools; from srum_jax.experiment import load_recipe; "
                   "print(tools.MINE, experiments.MINE, load_recipe('bagel_cot').experiment.name)")
    assert found.stdout.split() == ["True", "True", "bagel_cot"], found.stderr


@pytest.mark.parametrize("module", ["srum_jax.train", "srum_jax.tools.make_rewards", "srum_jax.tools.convert_weights",
                                    "srum_jax.experiments.tiny_methods"])
def test_commands_run_outside_of_a_checkout_and_say_their_name(site, tmp_path, module):
    found = python(site, tmp_path, "-m", module, "--help")
    assert found.returncode == 0 and found.stdout.startswith(f"usage: python -m {module} "), found.stderr


def test_installed_commands_start_what_they_are_called_after(site, tmp_path):
    entries = dict(re.findall(r"^(srum-[\w-]+) = (\S+)$", next(site.glob("*.dist-info/entry_points.txt")).read_text(),
                              re.MULTILINE))
    ours = {name: entry for name, entry in entries.items() if "console_scripts" in entry}
    assert len(ours) >= 6
    for name, entry in ours.items():
        module, _, function = entry.partition(":")
        found = python(site, tmp_path, "-c", f"import sys; sys.argv = ['{name}', '--help']; "
                       f"from {module} import {function}; {function}()")
        assert f".{function} " in found.stdout.splitlines()[0], (name, found.stderr)


def test_templates_and_the_small_models_are_there(site):
    inside = site / "srum_jax"
    for path in ("worlds/shapes/base_weights/llm_config.json", "worlds/shapes/sam_weights/config.json",
                 "inference/template_files/think_generation.txt", "tools/make_rewards/report/assets",
                 "tools/evaluation_report/assets"):
        assert (inside / path).exists(), path
