"""Experiments by name, or in a file of the user's."""

import dataclasses
import difflib
import importlib
import importlib.util
import inspect
import os
import pkgutil
import types
from collections.abc import Callable, Mapping
from typing import Any

from etils import epath

from srum_jax.errors import BadInput
from srum_jax.training.experiment import Experiment, Prepare


class ExperimentError(BadInput):
    """An experiment cannot be found or built."""


# Arguments of each stage of `tools.make_rewards run`; may write files that the stages need into the folder.
Rewards = Callable[[epath.Path], Mapping[str, Mapping[str, Any]]]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """An experiment's file, loaded: its settings, what has to be made before it runs, and how rewards are made."""

    experiment: Experiment
    prepare: Prepare | None
    rewards: Rewards | None


def load_recipe(name_or_path: str) -> Recipe:
    """Finds an experiment by name in the `experiments` package, or in a user's own Python file.

    The file defines `experiment() -> Experiment`, and may define `prepare(experiment, workdir) -> Experiment` and
    `rewards(folder) -> {stage: {argument: value}}`. An argument follows a colon:
    `bagel_lambda_sweep:0.25` calls `experiment("0.25")`.

    Raises:
      ExperimentError: no such experiment (with the nearest name), or a file without `experiment`.
    """
    name, colon, argument = os.path.expanduser(name_or_path).partition(":")
    if name.endswith(".py"):
        module = _module_of_file(name)
    else:
        names = experiment_names()
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
            raise ExperimentError(f"--experiment={name}: no such experiment; the nearest is {near[0]}. There are: "
                                  f"{', '.join(names)}; or give the path of a .py file.")
        module = importlib.import_module(f"{_package().__name__}.{name}")
    build = getattr(module, "experiment", None)
    if not callable(build):
        raise ExperimentError(f"{module.__file__}: expected a function experiment() -> Experiment, found none.")
    arguments = (argument,) if colon else ()
    try:
        inspect.signature(build).bind(*arguments)
    except TypeError:
        takes = "takes no argument" if colon else "needs an argument behind a colon"
        raise ExperimentError(f"--experiment={name_or_path}: this experiment {takes}.") from None
    try:
        experiment = build(*arguments)
    except ExperimentError:
        raise
    except ValueError as error:  # a setting that its dataclass refuses
        raise ExperimentError(f"{module.__file__}: {error}") from error
    if not isinstance(experiment, Experiment):
        raise ExperimentError(f"{module.__file__}: experiment() returned {type(experiment).__name__}, expected "
                              "Experiment.")
    return Recipe(experiment, getattr(module, "prepare", None), getattr(module, "rewards", None))


def experiment_names() -> list[str]:
    """Names in the `experiments` package; what makes a base or belongs to others there is no experiment."""
    package = _package()
    names = (module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_"))
    return sorted(name for name in names if _defines_experiment(f"{package.__name__}.{name}"))


def _package() -> types.ModuleType:
    return importlib.import_module("experiments")


def _defines_experiment(module: str) -> bool:
    source = epath.Path(importlib.util.find_spec(module).origin).read_text()
    return "\ndef experiment(" in source


def _module_of_file(path: str):
    if not epath.Path(path).exists() or epath.Path(path).is_dir():
        raise ExperimentError(f"--experiment={path}: no such file.")
    spec = importlib.util.spec_from_file_location("user_experiment", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
