"""Which family a checkpoint belongs to."""

import json
import subprocess
import sys

import pytest

from srum_jax.families.registry import NAMES, family, family_of, recognise
from srum_jax.weights.errors import WeightsError
from tests.weights.tiny_checkpoint import write


def test_a_bagel_is_recognised_by_its_language_config_whatever_config_json_says(tmp_path):
    directory = write(tmp_path / "bagel")
    (directory / "config.json").write_text("{broken")
    assert recognise(directory) == "bagel"
    assert recognise(directory / "ema.safetensors") == "bagel"
    assert family_of(directory) is family("bagel")


@pytest.mark.parametrize("fields, found", [
    ({"model_type": "blip3o_qwen"}, "BLIP3o-NEXT"),
    ({"model_type": "qwen2"}, '"qwen2"'),
    ({}, "llm_config.json"),
    ([], "config.json: not a JSON object; copy it again"),
])
def test_what_no_family_can_read_is_refused_with_the_directory_and_what_was_found(tmp_path, fields, found):
    (tmp_path / "config.json").write_text(json.dumps(fields))
    with pytest.raises(WeightsError) as caught:
        recognise(tmp_path)
    assert str(tmp_path) in str(caught.value) and found in str(caught.value)


def test_an_unknown_directory_gets_the_list_of_signs_and_an_absent_one_its_name(tmp_path):
    with pytest.raises(WeightsError, match=r"llm_config\.json"):
        recognise(tmp_path)
    with pytest.raises(WeightsError, match="nowhere"):
        recognise(tmp_path / "nowhere")


def test_a_name_that_no_family_has_is_refused_with_those_there_are():
    with pytest.raises(WeightsError) as caught:
        family("bagle")
    assert all(name in str(caught.value) for name in ("bagle", *NAMES))


@pytest.mark.parametrize("name", NAMES)
def test_a_family_is_called_as_its_architecture_is(name):
    assert family(name).architecture.name == name


def test_recognising_imports_no_family(tmp_path):
    directory = write(tmp_path / "bagel")
    code = ("import sys; from srum_jax.families.registry import recognise; recognise(sys.argv[1]); "
            "print([name for name in sys.modules if name.startswith('srum_jax.models') or name == 'jax'])")
    done = subprocess.run([sys.executable, "-c", code, directory], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", done.stdout
