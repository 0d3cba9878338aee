"""Token ids are those of transformers; files that cannot be used are refused by name."""

import json
import pickle
import subprocess
import sys

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from srum_jax.errors import BadInput
from srum_jax.weights.tokenizer import load_tokenizer
from srum_jax.worlds.shapes.base import trained_base

MARKERS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
LATER = ("<|vision_start|>", "<|vision_end|>")  # those that stand in tokenizer_config.json alone
# How Qwen2 splits texts before it looks for byte pairs.
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
         r"\s+(?!\S)|\s+")
TEXTS = ("A red kettle stands on a table, steam rises.", "Ein Kaffeehaus in Wien um 1900, Öl auf Leinwand",
         "二つの赤いりんご", "It's 3.5 metres\n\nhigh\t<|im_end|> and <|vision_start|>seen<|vision_end|>", "  ", "")


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    """A small tokenizer of Qwen2's kind."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.normalizer, backend.decoder = normalizers.NFC(), decoders.ByteLevel()
    backend.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(tokenizers.Regex(SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    backend.train_from_iterator(TEXTS * 3, trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    first = backend.get_vocab_size()
    backend.add_special_tokens([tokenizers.AddedToken(name, special=True, normalized=False) for name in MARKERS])
    backend.enable_truncation(7)
    backend.enable_padding(length=20)
    directory = tmp_path_factory.mktemp("qwen")
    backend.save(str(directory / "tokenizer.json"))
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    (directory / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "unk_token": None,
        "added_tokens_decoder": {str(first + place): {"content": name} | flags
                                 for place, name in enumerate(MARKERS + LATER)}}))
    return directory


def reference(directory):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(directory), local_files_only=True)


@pytest.mark.parametrize("kind", ["words", "byte pairs"])
def test_ids_and_texts_are_those_of_transformers(kind, qwen):
    directory = trained_base() if kind == "words" else qwen
    ours, theirs = load_tokenizer(directory), reference(directory)

    @given(st.lists(st.sampled_from((*TEXTS, *MARKERS, *LATER, " red", "circle,")) | st.text(max_size=20), max_size=4),
           st.booleans())
    def equal(parts, control_tokens):
        text = "".join(parts)
        ids = ours.encode(text, control_tokens=control_tokens)
        assert ids == theirs.encode(text, add_special_tokens=False, split_special_tokens=not control_tokens)
        assert ours.decode(ids) == theirs.decode(ids)

    equal()


def test_a_long_text_is_neither_cut_nor_a_short_one_padded(qwen):
    tokenizer = load_tokenizer(qwen)
    assert tokenizer.decode(tokenizer.encode(TEXTS[0] * 9)) == TEXTS[0] * 9
    assert len(tokenizer.encode("a")) == 1


def test_tokens_that_stand_in_the_configuration_alone_are_known(qwen):
    assert [len(load_tokenizer(qwen).encode(name, control_tokens=True)) for name in LATER] == [1, 1]


@pytest.mark.parametrize("name", MARKERS + LATER)
def test_names_of_control_tokens_are_text_unless_they_are_asked_to_act(qwen, name):
    tokenizer = load_tokenizer(qwen)
    (token,) = tokenizer.encode(name, control_tokens=True)
    plain = tokenizer.encode(f"a {name} b")
    assert token not in plain and len(plain) > 5 and tokenizer.decode(plain) == f"a {name} b"
    assert token in tokenizer.encode(f"a {name} b", control_tokens=True)


def test_it_can_be_pickled_for_worker_processes(qwen):
    tokenizer = load_tokenizer(qwen)
    assert pickle.loads(pickle.dumps(tokenizer)).encode(TEXTS[1]) == tokenizer.encode(TEXTS[1])


def test_a_file_of_weights_stands_for_its_directory(qwen):
    (qwen / "ema.safetensors").touch()
    assert load_tokenizer(qwen / "ema.safetensors").encode("red") == load_tokenizer(qwen).encode("red")


def test_neither_torch_nor_transformers_is_imported(qwen):
    code = ("import sys; from srum_jax.weights.tokenizer import load_tokenizer; load_tokenizer(sys.argv[1]);"
            "sys.exit(', '.join({'torch', 'transformers', 'jax'} & set(sys.modules)) or 0)")
    done = subprocess.run([sys.executable, "-c", code, str(qwen)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("file", "content", "says"), [
    ("tokenizer.json", None, "no such file"),
    ("tokenizer.json", b"{", "copy it again"),
    ("tokenizer.json", b"\xff\xfe", "copy it again"),
    ("tokenizer.json", b'{"version": "1.0", "model": {"type": "Later"}}', "newer"),
    ("tokenizer_config.json", b"[]", "expected a json object"),
    ("tokenizer_config.json", b'{"added_tokens_decoder": {"x": {}}}', "added_tokens_decoder"),
    ("tokenizer_config.json", b'{"added_tokens_decoder": {"9": null}}', "added_tokens_decoder"),
    ("tokenizer_config.json", b'{"added_tokens_decoder": {"9999": {"content": "<|new|>", "special": true}}}', "9999"),
])
def test_a_file_that_cannot_be_used_is_named(qwen, tmp_path, file, content, says):
    for path in qwen.glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(BadInput) as error:
        load_tokenizer(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / file}: ") and says in str(error.value).lower()
