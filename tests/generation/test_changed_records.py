"""A record that is JSON but not what was written is found when a run is resumed, and repaired."""

import json

import pytest

from srum_jax.generation.resume import missing_units
from srum_jax.generation.work_units import plan_work
from srum_jax.stages import GENERATE
from srum_jax.stages.folder import DamagedError, StageFolder
from tests.tools.fakes import PROMPTS, SETTINGS, generated


def resumed(out, **options):
    folder = StageFolder(out, GENERATE, SETTINGS.output.num_shards)
    return missing_units(plan_work(PROMPTS, SETTINGS).units, folder, SETTINGS, **options)


@pytest.mark.parametrize(("field", "value"), [
    ("index", 3), ("prompt", "another one"), ("image", "images/00000/other.png"), ("seed", 1), ("sampler", None),
    ("width", "48"), ("think_text", 7),
])
def test_a_record_with_another_value_is_an_error_that_names_the_field(tmp_path, field, value):
    out = generated(tmp_path / "run")
    assert resumed(out) == []
    path = sorted((out / "generate" / "chunks").rglob("*.jsonl"))[0]
    first, *others = path.read_text().splitlines()
    for record in (json.loads(first) | {field: value}, {k: v for k, v in json.loads(first).items() if k != field}):
        path.write_text("\n".join([json.dumps(record), *others]) + "\n")
        with pytest.raises(DamagedError, match=rf"{path.name}:1: .*field '{field}'"):
            resumed(out)
    assert [unit.name for unit in resumed(out, repair=True)] == [path.stem]
