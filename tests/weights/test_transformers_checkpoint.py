"""A checkpoint that transformers would complete with random weights or defaults is refused, with names and numbers."""

import json
import shutil

import numpy as np
import pytest

from srum_jax.judges.transformers import HuggingFaceJudge
from srum_jax.rewards.judgement.calls import Call
from srum_jax.weights.errors import WeightsError
from tests.tools.fakes import PROMPTS, generated, segment
from tests.weights.tiny_judge import write_judge
from tools.make_rewards.__main__ import main

pytest.importorskip("torch")
WEIGHTS, SETTINGS = "model.safetensors", "processor_config.json"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_judge(tmp_path_factory.mktemp("judge"))


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "judge")


def change_tensors(directory, change):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(directory / WEIGHTS)
    change(tensors)
    save_file(tensors, directory / WEIGHTS, metadata={"format": "pt"})


def lose_a_third(directory):
    change_tensors(directory, lambda tensors: [tensors.pop(name) for name in sorted(tensors)[::3]])


def reshape_one(directory):
    def change(tensors):
        tensors["language_model.model.norm.weight"] = np.zeros(5, np.float32)

    change_tensors(directory, change)


def change_config(directory, **text):
    config = json.loads((directory / "config.json").read_text())
    config["text_config"].update(text)
    (directory / "config.json").write_text(json.dumps(config))


def change_settings(directory, change):
    settings = json.loads((directory / SETTINGS).read_text())
    change(settings)
    (directory / SETTINGS).write_text(json.dumps(settings))


def test_a_whole_checkpoint_answers(whole):
    judge = HuggingFaceJudge(whole, "think")
    call = Call("global", 1, "SCORE: 0.5", 3, True, None, 0, "")
    (reply,) = judge.answer([(np.zeros((20, 30, 3), np.uint8), call)])
    assert 1 <= reply.num_tokens <= 3


def test_a_conversation_reaches_the_checkpoint_with_the_picture_before_its_first_question(whole):
    judge, shown = HuggingFaceJudge(whole, "think"), []
    template = judge._processor.apply_chat_template
    judge._processor.apply_chat_template = lambda messages, **options: shown.append(messages) or template(
        messages, **options)
    call = Call("quality", 1, "SCORE:", 3, False, None, 0, "", "1/0", (("what is it", "fine"),))
    judge.answer([(np.zeros((20, 30, 3), np.uint8), call)])
    (messages,) = shown
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert [[part["type"] for part in message["content"]] for message in messages] == [["image", "text"], ["text"],
                                                                                    ["text"]]
    assert [message["content"][-1]["text"] for message in messages] == ["what is it", "fine", "SCORE:"]


@pytest.mark.parametrize(("damage", "named"), [
    (lose_a_third, ["22 of the model's tensors", "model.language_model.layers.0.mlp.down_proj.weight"]),
    (reshape_one, ["1 tensors of other shapes", "language_model.norm.weight [5] instead of [16]"]),
    (lambda d: (d / WEIGHTS).write_bytes((d / WEIGHTS).read_bytes()[:-100]), ["the model cannot be loaded"]),
    (lambda d: (d / WEIGHTS).rename(d / "pytorch_model.bin"), ["the model cannot be loaded"]),
    (lambda d: (d / "config.json").write_text("{"), ["config.json", "not valid JSON"]),
    (lambda d: (d / "config.json").unlink(), ["config.json: no such file"]),
    (lambda d: (d / "config.json").write_bytes("{}".encode("utf-16")), ["config.json", "not valid JSON"]),
    (lambda d: change_config(d, num_hidden_layers=1),
     ["9 tensors of blocks that config.json says the model has not", "language_model.layers.1.input_layernorm"]),
    (lambda d: (d / "tokenizer.json").write_text(""), ["tokenizer.json", "not valid JSON"]),
    (lambda d: (d / "tokenizer_config.json").write_text("{"), ["tokenizer_config.json", "not valid JSON"]),
    (lambda d: (d / "generation_config.json").write_text("{"), ["generation_config.json", "not valid JSON"]),
    (lambda d: (d / "chat_template.jinja").write_text("{% for %}"), ["the chat template cannot be used", "Expected"]),
    (lambda d: (d / "chat_template.jinja").write_text("{{ messages[0].content[1].text }}"),
     ["the chat template cannot be used", "0 <image> tokens and 1 images"]),
    (lambda d: (d / "config.json").write_text('{"model_type": "bert"}'), ["the model cannot be loaded"]),
    (lambda d: (d / SETTINGS).write_text("{"), [SETTINGS, "not valid JSON"]),
    (lambda d: (d / SETTINGS).write_text("[]"), [SETTINGS, "expected a JSON object, found list"]),
    (lambda d: (d / SETTINGS).unlink(), ["settings for images in preprocessor_config.json", "found none"]),
    (lambda d: change_settings(d, lambda s: s.pop("image_processor")), ["settings for images", "found none"]),
    (lambda d: change_settings(d, lambda s: s["image_processor"].update(mean_of_image=[0.5], crop="no")),
     ["2 settings for images are unknown to CLIPImageProcessor", "mean_of_image=[0.5], crop='no'"]),
    (lambda d: (d / "preprocessor_config.json").write_text('{"do_resize": false, "resample": 3}'),
     ["1 settings differ between preprocessor_config.json", "do_resize: False and True"]),
    (lambda d: (d / "chat_template.jinja").unlink(), ["chat template", "found none"]),
    (lambda d: (d / "tokenizer.json").unlink(), ["the processor cannot be loaded"]),
], ids=lambda value: value[0] if isinstance(value, list) else "")
def test_one_that_is_not_whole_is_refused_with_names_and_numbers(copy, damage, named):
    damage(copy)
    with pytest.raises(WeightsError) as caught:
        HuggingFaceJudge(copy, "think")
    assert str(copy) in str(caught.value) and "\n" not in str(caught.value)
    assert all(text in str(caught.value) for text in named), str(caught.value)


def test_a_cache_whose_files_were_removed_is_told_with_where_its_links_lead(copy, tmp_path):
    (copy / SETTINGS).unlink()
    (copy / SETTINGS).symlink_to("../../blobs/123")
    with pytest.raises(WeightsError, match=r"processor_config\.json: a link to \.\./\.\./blobs/123"):
        HuggingFaceJudge(copy, "think")


def test_the_command_ends_with_2_and_notes_nothing_of_such_a_judge(copy, tmp_path, capfd):
    out = generated(tmp_path / "run", PROMPTS[:1])
    assert segment(out) == 0
    capfd.readouterr()
    lose_a_third(copy)
    assert main(["judge", "--out", str(out), "--judge", f"transformers:{copy}"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: ") and "22 of the model's tensors" in line
    assert not (out / "run-judge.json").exists() and not (out / "judge").exists()
