import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.golden import HERE, model_cases
from tools.check_parity.__main__ import main


def copy_of(case: str, tmp_path, *without: str):
    """The case, without files of these names."""
    return shutil.copytree(HERE / "bagel" / case, tmp_path / "case", ignore=shutil.ignore_patterns(*without))


def edit(path, change) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


@pytest.mark.slow
@pytest.mark.parametrize("case", model_cases("bagel"))
def test_every_golden_tensor_of_a_model_case_is_matched(case, tmp_path):
    report = tmp_path / "report.json"
    assert main(["bagel", str(case), "--json", str(report)]) == 0
    content = json.loads(report.read_text())
    groups = {group["name"] for group in content["groups"]}
    for wanted in ("vae/decode_out", "train_mixed/mid.layer", "train_mixed/grad.total", "train_mixed/grad.srum11",
                   "train_t2i/out.total", "train_mixed/out.ce", "train_t2i_adamw/step2.param"):
        assert wanted in groups
    runs = {name.split("/")[0] for name in groups if name.startswith("infer.")}
    assert runs == {f"infer.{run}" for run in (
        "t2i", "t2i_interval", "edit_global", "edit_channel", "edit_text_channel", "vqa", "vqa_think", "t2i_think",
        "edit_think",
    )}
    for wanted in ("infer.t2i/step", "infer.edit_global/cache", "infer.vqa/text.tokens", "infer.edit_channel/step",
                   "infer.edit_think/operations", "infer.t2i_interval/image_uint8"):
        assert wanted in groups


@pytest.mark.slow
def test_a_tensor_that_is_out_and_one_that_is_unknown_fail_by_name(tmp_path, capsys):
    case = copy_of("tiny_a", tmp_path, "train_mixed*", "train_t2i_adamw*", "infer*", "vae.safetensors")

    def change(tensors):
        tensors["mid.layer.1"] = tensors["mid.layer.1"] * 1.001
        tensors["mid.layer.7"] = np.zeros((3, 3), np.float32)
        del tensors["out.total"]

    edit(case / "train_t2i.safetensors", change)
    assert main(["bagel", str(case)]) == 1
    out = capsys.readouterr().out
    assert "mid.layer.1: absolute" in out and "mid.layer.7: missing, nothing" in out
    assert "out.total: missing in the case" in out
    assert "train_t2i/mid.layer" in out.splitlines()[-1]


@pytest.mark.slow
def test_a_wrong_step_of_sampling_and_a_wrong_rotary_position_fail_by_name(tmp_path, capsys):
    case = copy_of("tiny_a", tmp_path, "train_*", "vae.safetensors")
    edit(case / "infer.safetensors", lambda tensors: tensors.update({
        "t2i/step2.v": tensors["t2i/step2.v"] * 1.001, "vqa/text.tokens": tensors["vqa/text.tokens"][::-1].copy(),
    }))
    description = json.loads((case / "infer.json").read_text())
    description["runs"] = {name: description["runs"][name] for name in ("t2i", "edit_global", "vqa")}
    description["runs"]["edit_global"]["ops"][2]["rope_after"] += 1
    (case / "infer.json").write_text(json.dumps(description))
    assert main(["bagel", str(case)]) == 1
    out = capsys.readouterr().out
    assert "step2.v: absolute" in out and "text.tokens: absolute" in out and "op2.rope_after: absolute 1.00e+00" in out


def test_a_folder_that_is_no_case_is_an_error(tmp_path, capsys):
    assert main(["bagel", str(tmp_path)]) == 2
    assert "expected ema.safetensors, units.safetensors or reward_maps.json" in capsys.readouterr().err
    assert main(["bagel", str(tmp_path / "absent")]) == 2


@pytest.mark.slow
def test_a_case_that_lacks_an_input_is_an_error_that_names_file_and_tensor(tmp_path, capsys):
    case = copy_of("tiny_a", tmp_path, "train_t2i*", "infer*")
    edit(case / "vae.safetensors", lambda tensors: tensors.pop("posterior_noise"))
    assert main(["bagel", str(case)]) == 2
    err = capsys.readouterr().err
    assert "vae.safetensors" in err and "posterior_noise" in err
    (case / "vae.safetensors").unlink()
    (case / "train_mixed_reward01.json").unlink()
    assert main(["bagel", str(case)]) == 2
    assert "train_mixed_reward01.json" in capsys.readouterr().err
