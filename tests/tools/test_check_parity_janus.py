import json
import shutil

import pytest
from safetensors.numpy import load_file, save_file

from tests.golden import HERE, model_cases
from tools.check_parity.__main__ import main

OURS = HERE / "janus" / "tiny_a"


def copy_with(tmp_path, *files):
    """The case with the weights, and of its records only those named."""
    case = shutil.copytree(OURS, tmp_path / "case")
    for path in case.glob("golden_*"):
        if path.name not in files:
            path.unlink()
    return case


@pytest.mark.slow
@pytest.mark.parametrize("case", model_cases("janus"))
def test_every_golden_tensor_of_a_model_case_is_matched(case, tmp_path):
    report = tmp_path / "report.json"
    assert main(["janus_pro", str(case), "--json", str(report)]) == 0
    groups = {group["name"] for group in json.loads(report.read_text())["groups"]}
    assert {"preprocess/padded_1", "layout/batch.input_ids", "vision/aligner", "understanding/greedy.tokens",
            "understanding/tf1.logprobs", "vq/indices", "vq/reconstruction", "generation/sample.tokens",
            "generation/greedy.image_uint8", "generation/sft.ce", "dual/und.mean", "dual/gen.mean", "grads/text.loss",
            "grads/image without gradient", "adamw/step3.loss", "meta/trained_param_names", "templates/2"} <= groups


def test_a_tensor_that_is_out_and_one_that_is_unknown_fail_by_name(tmp_path, capsys):
    case = copy_with(tmp_path, "golden_layout.safetensors", "golden_vq.safetensors")
    tensors = load_file(case / "golden_vq.safetensors")
    indices = tensors["indices"].copy()
    indices[3] += 1
    save_file({**tensors, "indices": indices, "surplus": tensors["distances"]}, case / "golden_vq.safetensors")
    assert main(["janus_pro", str(case)]) == 1
    out = capsys.readouterr().out
    assert "indices: absolute 1" in out and "surplus: missing, nothing" in out
    assert "vq/indices" in out.splitlines()[-1]


def test_another_template_fails_by_its_number(tmp_path, capsys):
    case = copy_with(tmp_path, "golden_layout.safetensors")
    entries = json.loads((case / "templates.json").read_text())
    entries[1]["text"] += " "
    (case / "templates.json").write_text(json.dumps(entries))
    assert main(["janus_pro", str(case)]) == 1
    assert "templates/1" in capsys.readouterr().out.splitlines()[-1]


def test_a_folder_that_is_no_case_is_an_error(tmp_path, capsys):
    assert main(["janus_pro", str(tmp_path)]) == 2
    assert "golden_*.safetensors" in capsys.readouterr().err
