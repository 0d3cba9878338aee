"""Recomputes `freeze.json`: which tensors the reference trains."""

import json

from srum_jax.weights.table import published_tensors
from tools.check_parity.model_case import Case, Results
from tools.check_parity.result import compare_names


def check(case: Case) -> Results:
    """Compares both lists, of every tensor of a model that is ready to be trained, with what "default" trains."""
    architecture = case.checkpoint.architecture
    stated = json.loads((case.directory / "freeze.json").read_text())
    shapes = architecture.shapes(case.config, {"vision", "eva"})
    trained = [name for name in shapes if _matches(name, architecture.trainable["default"])]
    found = {"trainable": published_tensors(architecture.table, {name: shapes[name] for name in trained})}
    found["frozen"] = published_tensors(architecture.table, {name: shapes[name] for name in shapes.keys() - trained})
    return [compare_names(f"freeze/{title}", stated[title], names) for title, names in found.items()]


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(name.startswith(pattern.removesuffix("*")) for pattern in patterns)
