"""Tensors and texts recorded from the reference implementations, and how to read them."""

import json
import os
import pathlib

import numpy as np
import pytest
from safetensors.numpy import load_file

HERE = pathlib.Path(__file__).resolve().parent
# Wider cases that are too large for the repository, where a developer has them.
WIDER = pathlib.Path(os.environ.get("SRUM_GOLDEN", HERE.parents[2] / "shared" / "golden"))


def golden_tensors(name: str | pathlib.Path) -> dict[str, np.ndarray]:
    """All tensors of one file: of this folder, for instance `bagel/tiny_a/vae.safetensors`, or of a model case."""
    return load_file(HERE / name)


def golden_json(name: str | pathlib.Path):
    """One parsed JSON file."""
    return json.loads((HERE / name).read_text())


def suder_case(name: str) -> tuple[dict, dict]:
    """Inputs and outputs of one worked example of SUDER: lists as arrays, where they are no lists of names."""
    case = next(case for case in golden_json("suder/vectors.json")["cases"] if case["name"] == name)
    return tuple({key: np.asarray(value) if isinstance(value, list) else value for key, value in case[part].items()}
                 for part in ("inputs", "outputs"))


def model_cases(family: str) -> list:
    """Folders of weights and recorded tensors, as parameters: the repository's, and by night wider ones."""
    ours = [pytest.param(path, id=path.name) for path in sorted((HERE / family).glob("tiny_*"))]
    assert ours, f"{HERE / family}: no case"
    wider = [pytest.param(path, id=f"{path.name} in full", marks=pytest.mark.nightly)
             for path in sorted((WIDER / family).glob("tiny_*"))]
    return ours + wider
