import json
import shutil

import pytest
from safetensors.numpy import load_file, save_file

from tests.golden import HERE, WIDER, model_cases
from tools.check_parity.__main__ import main

OURS, UNTIED = HERE / "blip3o" / "tiny_tied", WIDER / "blip3o" / "tiny_untied"


def copy_with(tmp_path, *files, case=OURS):
    """The case with the weights, and of its records only those named."""
    absent = [path.name for path in case.glob("golden_*") if path.name not in files]
    return shutil.copytree(case, tmp_path / "case", ignore=shutil.ignore_patterns(*absent))


@pytest.mark.slow
@pytest.mark.parametrize("case", model_cases("blip3o"))
def test_every_golden_tensor_of_a_model_case_is_matched(case, tmp_path):
    report = tmp_path / "report.json"
    assert main(["blip3o", str(case), "--json", str(report)]) == 0
    groups = {group["name"] for group in json.loads(report.read_text())["groups"]}
    assert {"eva/pooled", "llm_text/gen_tokens", "train/nodrop.pred", "train/drop1.mse_loss", "train/query_hidden",
            "sampling/s30.latents_final", "srum/nodrop.signed.total_lambda0.5",
            "srum_grads/drop1.signed.lambda0.5.model.latent_queries", "sampling/s4.model_timesteps", "freeze/trainable",
            "freeze/frozen"} <= groups


@pytest.mark.slow
@pytest.mark.skipif(not UNTIED.is_dir(), reason="a wider case, which lies beside some clones")
def test_what_the_small_case_lacks_is_matched_qwens_vision_and_a_head_of_its_own(tmp_path):
    names = ("llm_image", "llm_text", "vision")
    case = copy_with(tmp_path, *(f"golden_{name}.safetensors" for name in names), case=UNTIED)
    report = tmp_path / "report.json"
    assert main(["blip3o", str(case), "--json", str(report)]) == 0
    groups = {group["name"].split("/")[0] for group in json.loads(report.read_text())["groups"]}
    assert groups == {*names, "freeze"}


def test_a_tensor_that_is_out_and_one_that_is_unknown_fail_by_name(tmp_path, capsys):
    case = copy_with(tmp_path, "golden_preprocess.safetensors", "golden_eva.safetensors")
    tensors = load_file(case / "golden_eva.safetensors")
    save_file({**tensors, "pooled": tensors["pooled"] * 1.001, "block_9": tensors["pooled"]},
              case / "golden_eva.safetensors")
    assert main(["blip3o", str(case)]) == 1
    out = capsys.readouterr().out
    assert "pooled: absolute" in out and "block_9: missing, nothing" in out
    assert "eva/pooled" in out.splitlines()[-1]


def test_a_part_that_should_be_frozen_and_is_trained_fails_by_name(tmp_path, capsys):
    case = copy_with(tmp_path, "golden_preprocess.safetensors")
    lists = json.loads((case / "freeze.json").read_text())
    lists["frozen"].append(lists["trainable"].pop())
    (case / "freeze.json").write_text(json.dumps(lists))
    assert main(["blip3o", str(case)]) == 1
    assert "model.dit.model.norm_out.linear_2.bias" in capsys.readouterr().out


def test_a_folder_that_is_no_case_is_an_error(tmp_path, capsys):
    assert main(["blip3o", str(tmp_path)]) == 2
    assert "golden_*.safetensors" in capsys.readouterr().err
