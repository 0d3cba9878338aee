"""The benchmark of the world of shapes, and the real command on given pictures."""

import json

from srum_jax import evaluate
from srum_jax.evaluation.registry import open_benchmark

BENCHMARK = open_benchmark("shapes")
ITEMS = BENCHMARK.items({})


def call(out, *arguments):
    return evaluate.main(["--benchmark", "shapes", "--out", str(out), *map(str, arguments)])


def results(out):
    return json.loads((out / "results.json").read_text())
