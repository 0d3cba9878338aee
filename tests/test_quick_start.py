"""Every command reads its arguments before it imports what takes seconds: `--help` and a mistake are answered at once.

What is imported is looked at, not the clock.
"""

import json
import os
import re
import subprocess
import sys

import pytest

from tests.imports import ROOT

HEAVY = ("jax", "flax", "optax", "grain", "orbax", "tensorstore", "torch", "transformers", "tensorflow_datasets",
         "tensorboardX", "tensorflow", "gradio", "scipy.ndimage", "scipy.optimize", "ray", "matplotlib")
# Parts of a command that it starts itself, and that nobody types.
_WORKERS = re.compile(r"worker$")

# Mistakes of each command beside a misspelt option, which all have.
_OUT = ["--out", "/nowhere/out"]
MISTAKES = {
    "srum_jax.train": [["--experiment=tiny", "--set", "training.stps=3"], ["--experiment=tny"],
                       ["--experiment=bagel_cot", "--set", "seed=-1"]],
    "srum_jax.compile": [["--experiment=bagel_cot", "--topology", "v5e:2x2", "--set", "compute.remt=full"]],
    "srum_jax.generate": [["--checkpoint", "/nowhere", "--prompt", "a", *_OUT, "--size", "3"],
                          ["--checkpoint", "srum_jax/worlds/shapes/base_weights", "--prompt", "a", *_OUT, "--set",
                           "sampler.shft=3"]],
    "srum_jax.evaluate": [["--benchmark", "shapes", *_OUT, "--judge", "nobody", "--stage", "judge"],
                          ["--benchmark", "shapes", *_OUT, "--set", "sampler.shft=3"],
                          ["--benchmark", "shapes", *_OUT, "--protocol", "none"],
                          ["--benchmark", "shapes", *_OUT, "--stage", "score"]],
    "srum_jax.chat": [["--checkpoint", "/nowhere", "--set", "text.max_tokns=3"]],
    "srum_jax.demo": [["--checkpoint", "/nowhere"], ["--experiment=tny"], ["--set", "judge.max_regins=3"],
                      ["--set", "sampler.shft=3"], ["--provider", "sam"], ["--experiment=suder_janus"],
                      ["--experiment=bagel_cot"], ["--sam-model", "/nowhere"]],
    "tools.precompute_latents": [["--records", "/nowhere", *_OUT, "--set", "data.max_sise=3"]],
    "tools.make_rewards": [["export"], ["judge", *_OUT, "--set", "judge.max_regins=3"],
                           ["segment", *_OUT, "--set", "sam.points=3"], ["run", "--experiment=tny", *_OUT],
                           ["verify", "/nowhere"], ["import-jsonl", *_OUT]],
    "tools.convert_weights": [["import", *_OUT], ["export", "--weights=other"]],
    "tools.check_parity": [["bagl", "case"]],
}

SUBCOMMANDS = {
    "tools.make_rewards": ["run", "generate", "segment", "likelihood", "judge", "parse", "export", "select",
                           "import-generated", "import-jsonl", "verify", "report"],
    "tools.convert_weights": ["import", "export", "unpickle"],
}

_SAY = """
import contextlib, importlib, io, json, sys
argvs, module = json.loads(sys.argv[1]), sys.argv[2]
main = importlib.import_module(module).main
codes = []
for argv in argvs:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            codes.append(main(argv))
        except SystemExit as stopped:
            codes.append(stopped.code)
print(json.dumps([codes, sorted(sys.modules)]))
"""


def commands():
    """Whatever can be started with `python -m`."""
    found = []
    for path in sorted(path for room in ("srum_jax", "tools", "experiments", "benchmarks")
                       for path in (ROOT / room).rglob("*.py")):
        if '\nif __name__ == "__main__":\n    sys.exit(main())' in path.read_text() and not _WORKERS.search(path.stem):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found.append(".".join(parts))
    return found


def test_the_commands_are_found():
    assert {f"srum_jax.{name}" for name in ("train", "generate", "evaluate", "chat", "compile")} < set(commands())
    assert len(commands()) >= 18 and MISTAKES.keys() <= {name.removesuffix(".__main__") for name in commands()}


@pytest.mark.parametrize("module", commands())
def test_help_and_mistakes_are_answered_before_anything_heavy_is_imported(module):
    mistakes = [["--misspelt"], *MISTAKES.get(module.removesuffix(".__main__"), [])]
    helps = [["--help"], *([name, "--help"] for name in SUBCOMMANDS.get(module.removesuffix(".__main__"), ()))]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", _SAY, json.dumps([*helps, *mistakes]), module], cwd=ROOT, text=True,
                          capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr
    codes, imported = json.loads(done.stdout)
    assert codes == [0] * len(helps) + [2] * len(mistakes)
    assert sorted(set(imported) & set(HEAVY)) == []
