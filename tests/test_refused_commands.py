"""A command that is refused (exit code 2) leaves no trace: no file, and no folder that it made."""

import pytest
from PIL import Image

from srum_jax.worlds.shapes.base import trained_base
from srum_jax.worlds.shapes.records import write_records
from tests import commands

BASE = str(trained_base())
NO_BACKEND = {"JAX_PLATFORMS": "abacus"}
DRAW = ("srum_jax.generate", "--prompt", "a red circle", "--out", "OUT", "--checkpoint")
LATENTS = ("tools.precompute_latents", "--records", "RECORDS", "--out", "OUT", "--set", "rows.stride=8", "--checkpoint")
RUN = ("tools.make_rewards", "run", "--experiment=tiny", "--out", "OUT")
TRAIN = ("srum_jax.train", "--experiment=tiny", "--workdir", "OUT")
# OUT is a folder two levels deep that is not there; EMPTY one that holds nothing; RECORDS one of reward records;
# GROUPS a file of pictures to be ranked.
REFUSED = [
    (*TRAIN, "--set", "mesh.data=3"),
    (*TRAIN, "--set", "model.checkpoint=EMPTY"),
    pytest.param((*TRAIN, "--set", "model.trainable=absent.*"), marks=pytest.mark.slow),
    ("srum_jax.compile", "--generation", "--topology", "v5e:2x4", "--mesh", "fsdp=3", "--cache", "OUT"),
    ("srum_jax.compile", "--experiment=bagel_cot", "--topology", "v5e:9x9", "--cache", "OUT"),
    (*DRAW, "EMPTY"),
    (*DRAW, BASE, "--mesh", "fsdp=3"),
    (*DRAW, BASE, "--attention", "splash"),
    ("srum_jax.evaluate", "--benchmark", "shapes", "--out", "OUT", "--judge", "nobody"),
    ("srum_jax.evaluate", "--benchmark", "shapes", "--out", "OUT", "--mesh", "fsdp=3"),
    ("srum_jax.evaluate", "--benchmark", "wise", "--out", "OUT", "--prompts", "/nowhere", "--checkpoint", BASE),
    ("tools.evaluation_report", "EMPTY", "--out", "OUT"),
    ("tools.measure_rewards", "--groups", "/nowhere", "--json", "OUT/report.json", "--checkpoint", BASE),
    ("tools.measure_rewards", "--groups", "GROUPS", "--json", "OUT/report.json", "--checkpoint", "EMPTY"),
    ("experiments.ablation_table", "full=EMPTY", "base=OUT"),
    ("experiments.wise_table", "base=EMPTY", "culture=OUT"),
    ("tools.convert_weights", "import", "--source", "/nowhere", "--out", "OUT"),
    ("tools.convert_weights", "import", "--source", "EMPTY", "--out", "OUT"),
    ("tools.convert_weights", "import", "--source", BASE, "--without", "legs", "--out", "OUT"),
    ("tools.convert_weights", "export", "--checkpoint", "EMPTY", "--template", BASE, "--out", "OUT"),
    (*LATENTS, "EMPTY"),
    (*LATENTS, BASE, "--set", "rows.image_height=44"),
    ("tools.make_rewards", "segment", "--out", "OUT"),
    ("tools.make_rewards", "judge", "--out", "OUT", "--checkpoint", BASE),
    ("tools.make_rewards", "export", "--out", "OUT"),
    ("tools.make_rewards", "report", "EMPTY", "--out", "OUT"),
    ("tools.make_rewards", "import-jsonl", "--jsonl", "/nowhere", "--images", "EMPTY", "--out", "OUT", "--name", "x"),
    ("tools.make_rewards", "import-generated", "--images", "EMPTY", "--out", "OUT"),
    (*RUN, "--set", "judge.max_regions=many"),
    (*RUN, "--prompts", "/nowhere"),
    ("tools.contact_sheet", "--run", "EMPTY", "--out", "OUT/sheet.png"),
    ("tools.check_parity", "bagel", "EMPTY", "--json", "OUT/report.json"),
]
# Whatever computes, where JAX cannot start.
COMPUTING = [
    (*TRAIN,), (*DRAW, BASE), (*LATENTS, BASE),
    ("srum_jax.chat", "--question", "what is seen", "--checkpoint", BASE),
    ("srum_jax.evaluate", "--benchmark", "shapes", "--out", "OUT"),
    ("tools.measure_rewards", "--groups", "GROUPS", "--json", "OUT/report.json", "--checkpoint", BASE),
    ("tools.check_parity", "bagel", "tests/golden/bagel/units", "--json", "OUT/report.json"),
    ("experiments.tiny_pretrain", "--out", "OUT"),
    ("experiments.tiny_think", "--out", "OUT"),
    ("experiments.tiny_study", "--out", "OUT"),
    ("experiments.tiny_methods", "--out", "OUT"),
    ("experiments.tiny_suder", "--out", "OUT"),
]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "empty").mkdir()
    write_records(folder / "records", 4, 0, wrong_share=0.0)
    for name in ("a", "b"):
        Image.new("RGB", (48, 48)).save(folder / f"{name}.png")
    (folder / "groups.jsonl").write_text('{"prompt": "a red circle", "pictures": ["a.png", "b.png"]}\n')
    return {"EMPTY": str(folder / "empty"), "RECORDS": str(folder / "records"), "GROUPS": str(folder / "groups.jsonl")}


def placed(words, places):
    for name, path in places.items():
        words = [word.replace(name, path) for word in words]
    return words


@pytest.mark.parametrize("words", REFUSED, ids=" ".join)
def test_a_refused_command_leaves_no_trace(words, inputs, tmp_path):
    module, *words = placed(words, inputs | {"OUT": str(tmp_path / "a" / "b")})
    done = commands.run(module, *words)
    assert done.code == 2 and "error: " in done.err and "Traceback" not in done.err, done.err
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("words", COMPUTING, ids=" ".join)
def test_a_backend_that_cannot_start_is_one_line_and_leaves_no_trace(words, inputs, tmp_path):
    run = commands.run_afresh if words == TRAIN else commands.run
    module, *words = placed(words, inputs | {"OUT": str(tmp_path / "a" / "b")})
    done = run(module, *words, env=NO_BACKEND)
    assert done.code == 2 and done.err.count("\n") == 1, done.err
    assert done.err.startswith("error: JAX cannot start its devices") and "abacus" in done.err
    assert list(tmp_path.rglob("*")) == []
