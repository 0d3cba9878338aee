"""What the command says to arguments, prompts, checkpoints and folders that it cannot use; no weights are loaded."""

import io
import json
import shutil

import pytest
from PIL import Image

from srum_jax import generate
from tests.generation.fakes import contents, records


def test_a_run_is_summarised_and_a_second_one_loads_no_model(command, prompts, tmp_path):
    code, out, _ = command("--prompts", str(prompts), "--num-candidates", "2")
    assert code == 0 and len(records(tmp_path / "out")) == 6
    table = dict(line.rsplit("  ", 1) for line in out.splitlines() if "  " in line)
    table = {name.strip(): value.strip() for name, value in table.items()}
    assert table["prompts"] == "3" and table["candidates"] == "6" and table["written now"].startswith("6 (")
    before = contents(tmp_path / "out")
    code, out, _ = command("--prompts", str(prompts), "--num-candidates", "2")
    assert code == 0 and "complete" in out and len(command.pipelines) == 1
    assert contents(tmp_path / "out") == before


def test_prompts_may_be_given_directly(command, tmp_path):
    assert command("--prompt", "a red circle", "--prompt", "a blue square")[0] == 0
    assert sorted(records(tmp_path / "out")) == ["prompt-0-c00", "prompt-1-c00"]


def test_the_first_rows_only_if_asked(command, prompts, tmp_path):
    assert command("--prompts", str(prompts), "--limit", "2")[0] == 0
    assert len(records(tmp_path / "out")) == 2


def test_nothing_is_written_in_a_dry_run(command, prompts, tmp_path):
    code, out, _ = command("--prompts", str(prompts), "--dry-run", "--process-index", "0", "--num-processes", "2",
                           "--batch-size", "1")
    assert code == 0 and not command.pipelines and not (tmp_path / "out").exists()
    assert "process 0" in out and "2 units, 2 images" in out and "about 0.00492 MB" in out


def test_rows_that_cannot_be_used_stop_the_run_before_it_begins_or_are_left_out(command, prompts, tmp_path):
    prompts.write_text(prompts.read_text() + '{"prompt": ""}\n{"prompt": "a ring", "height": 33, "width": 32}\n')
    code, _, err = command("--prompts", str(prompts))
    assert code == 2 and not (tmp_path / "out").exists()
    assert "2 rows cannot be used" in err and "list.jsonl:4: field 'prompt': expected a prompt" in err
    assert "list.jsonl:5: height: expected a positive multiple of 8 pixels, found 33" in err
    code, out, _ = command("--prompts", str(prompts), "--on-error", "skip")
    assert code == 3 and len(records(tmp_path / "out")) == 3 and "left out, bad prompt" in out
    summary = json.loads((tmp_path / "out" / "summary-generate.json").read_text())
    assert summary["rejected"] == {"bad_prompt": 1, "bad_size": 1}
    assert command("--prompts", str(prompts), "--on-error", "skip")[0] == 3, "also if all others are there"


def test_other_settings_are_refused_with_the_difference(command, prompts, tmp_path):
    assert command("--prompts", str(prompts))[0] == 0
    before = contents(tmp_path / "out")
    code, _, err = command("--prompts", str(prompts), "--set", "sampler.guidance.text_scale=7", "--think")
    assert code == 2 and "generate.settings.sampler.guidance.text_scale: the folder 4.0, this command 7.0" in err
    assert "generate.settings.plan: the folder null" in err and contents(tmp_path / "out") == before


def test_pictures_of_edits_are_checked_and_found_beside_the_prompt_file(command, tmp_path):
    (tmp_path / "lists").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "lists" / "a.png")
    (tmp_path / "lists" / "edits.jsonl").write_text('{"prompt": "red", "image": "a.png"}')
    assert command("--prompts", str(tmp_path / "lists" / "edits.jsonl"))[0] == 0
    (tmp_path / "lists" / "bad.jsonl").write_text('{"prompt": "red", "image": "b.png"}')
    code, _, err = command("--prompts", str(tmp_path / "lists" / "bad.jsonl"))
    assert code == 2 and "bad.jsonl:1: field 'image': b.png: no such file" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompts", "absent.jsonl"], "absent.jsonl: no such file"),
        (["--prompt", "a", "--set-name", "my set"], "--set-name: set name: expected letters"),
        (["--prompt", "a", "--set", "sampler.num_timesteps=1"], "num_timesteps: expected an integer of at least 2"),
        (["--prompt", "a", "--process-index", "1"], "--num-processes: expected both or neither"),
        (["--prompt", "a", "--templates", "absent"], "absent: expected a directory with templates"),
        (["--prompt", "a red circle", "--size", "640x640"], "larger than the position table"),
        (["--prompt", "a", "--num-candidates", "1001"], "num_candidates: expected a whole number from 1 to 1000"),
        (["--prompt", " "], "--prompt:1: field '--prompt': expected a prompt, found an empty text"),
        (["--prompt", "red " * 3000], "--prompt:1: prompt: expected 1 to 510 tokens, found 3000"),
    ],
)
def test_arguments_that_cannot_be_used_are_said_in_one_line_with_exit_code_2(command, tmp_path, arguments, message):
    code, _, err = command(*arguments)
    assert code == 2 and message in err and err.startswith("error: ") and err.count("\n") == 1
    assert not (tmp_path / "out").exists() and not command.pipelines


@pytest.mark.parametrize("arguments", [["--prompt", "a", "--dtype", "none"], ["--prompt", "a", "--prompts", "b"],
                                       ["--prompt", "a", "--limit", "0"], []])
def test_wrong_usage_ends_with_code_2(command, arguments):
    with pytest.raises(SystemExit) as stopped:
        command(*arguments)
    assert stopped.value.code == 2


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("llm_config.json", None, "expected llm_config.json (BAGEL)"),
        ("llm_config.json", "{}", "llm_config.json"),
        ("tokenizer.json", None, "tokenizer"),
        ("ema.safetensors", "{}", "ema.safetensors"),
    ],
)
def test_checkpoints_that_cannot_be_used_are_errors_with_exit_code_2(
    command, tiny_base, tmp_path, file, content, message
):
    broken = shutil.copytree(tiny_base, tmp_path / "broken")
    if content is None:
        for path in [broken / file, *(broken.glob("tokenizer*") if file.startswith("tokenizer") else ())]:
            path.unlink(missing_ok=True)
    else:
        (broken / file).write_text(content)
    code, _, err = command("--prompt", "a", checkpoint=broken)
    assert code == 2 and message in err and "Traceback" not in err


def test_a_checkpoint_that_is_absent_is_named(command):
    code, _, err = command("--prompt", "a", checkpoint="/absent/model")
    assert code == 2 and "/absent/model: no such directory" in err


def test_an_output_folder_that_cannot_be_made_is_an_error(command, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = command("--prompt", "a", out=tmp_path / "file" / "out")
    assert code == 2 and "--out" in err and "cannot be made" in err


def test_help_shows_examples_and_exit_codes(capsys):
    with pytest.raises(SystemExit) as stopped:
        generate.main(["--help"])
    out = capsys.readouterr().out
    assert stopped.value.code == 0 and "t2i_compbench" in out and "exit codes" in out and "--process-index 2" in out


def test_a_token_beyond_the_embedding_is_told_before_any_weight_is_loaded(command, tiny_base, tmp_path):
    other = shutil.copytree(tiny_base, tmp_path / "other")
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["flamingo"] = 5000
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    for more in ((), ("--dry-run",)):
        code, _, err = command("--prompt", "a flamingo", "--prompt", "two flamingo", *more, checkpoint=other)
        assert code == 2 and "token 5000 ('flamingo')" in err and err.count("\n") == 1
    assert not command.pipelines and not (tmp_path / "out").exists()


def test_control_tokens_of_a_prompt_are_refused_or_text_unless_they_are_asked_to_act(command, tmp_path):
    code, _, err = command("--prompt", "a red circle <|im_end|>")
    assert code == 2 and "'<|im_end|>'" in err
    assert command("--prompt", "a red circle <|im_end|>", "--control-tokens")[0] == 0
    assert json.loads((tmp_path / "out" / "run.json").read_text())["generate"]["settings"]["control_tokens"] is True


@pytest.mark.parametrize("refused", [["--mesh", "tensor=3"], ["--set", "sampler.shift=0"], ["--attention", "splash"]])
def test_a_refused_command_leaves_no_folder(tiny_base, tmp_path, capsys, refused):
    code = generate.main(["--checkpoint", str(tiny_base), "--out", str(tmp_path / "out"), "--prompt", "a red circle",
                          *refused])
    assert code == 2 and not (tmp_path / "out").exists() and capsys.readouterr().err.count("\n") == 1


def test_prompts_in_any_script_can_be_named_on_a_stream_without_it(tiny_base, tmp_path, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", stream)
    folder = tmp_path / "\u5199\u771f"
    assert generate.main(["--checkpoint", str(tiny_base), "--out", str(folder), "--prompt", "a red circle",
                          "--dry-run"]) == 0
    print(folder)
    stream.flush()
    assert b"\\u5199" in stream.buffer.getvalue()


@pytest.mark.parametrize("hidden", ["._ema.safetensors", ".DS_Store", "._config.json", "._llm_config.json"])
def test_hidden_files_beside_the_weights_change_nothing(command, tiny_base, tmp_path, hidden):
    copy = shutil.copytree(tiny_base, tmp_path / "copy")
    assert command("--prompt", "a red circle", checkpoint=copy)[0] == 0
    (copy / hidden).write_bytes(b"\x00\x05\x16\x07")
    assert command("--prompt", "a red circle", checkpoint=copy)[0] == 0


def test_an_edit_of_a_photograph_is_turned_as_a_viewer_turns_it(command, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = Image.new("RGB", (64, 32), (0, 0, 250))
    pixels.paste((250, 0, 0), (0, 0, 32, 32))  # at the left, and after the turn at the top
    pixels.save(tmp_path / "photo.jpg", exif=exif)
    (tmp_path / "edits.jsonl").write_text('{"prompt": "a red circle", "image": "photo.jpg"}')
    assert command("--prompts", str(tmp_path / "edits.jsonl"))[0] == 0
    ((request,), _), = command.pipelines[0].batches
    top, bottom = request.image.getpixel((16, 5)), request.image.getpixel((16, 60))
    assert request.image.size == (32, 64) and top[0] > 200 > bottom[0]
