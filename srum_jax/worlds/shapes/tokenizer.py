"""A word-level tokenizer for prompts of the shapes world, in the format that transformers loads offline."""

import json

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

from srum_jax.models.bagel.config import SpecialTokens
from srum_jax.worlds.shapes.prompts import NUMBER_WORDS
from srum_jax.worlds.shapes.scene import COLORS, RELATIONS, SHAPES, TEXTURES

UNKNOWN = "<|unknown|>"
SPECIAL_TOKENS = SpecialTokens(bos=1, eos=2, start_of_image=3, end_of_image=4)
_SPECIAL_NAMES = (UNKNOWN, "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>")
# What a judge in this world asks and answers with (see `questions`); the prompts themselves do not use them.
# Numbers, scores and words with a colon are one token each, so that a decoded answer reads as it was written.
LINE_END = "\n"
_JUDGE_WORDS = (
    LINE_END, *(str(number) for number in range(49)), "-1.0", "-0.5", "0.0", "0.5", "1.0",
    *"score: reason: object: identified region id: fit: does what is picture object at thing".split(),
    *"good bad wrong right missing yes no nothing should be it shows plan: think <think> </think> : . - / ?".split(),
)
# Marks that end a part of a sentence are tokens of their own, unless they stand inside a number; spaces are dropped.
_SPLITS = ((r"\.(?!\d)|[,!?\n]", "isolated"), (r"[ \t\r]+", "removed"))


def vocabulary() -> dict[str, int]:
    """All words and their ids; special tokens come first."""
    grammar = ["a", "an", "and", ",", *NUMBER_WORDS, *TEXTURES, *COLORS, *SHAPES]
    grammar += [shape + ("es" if shape.endswith("s") else "s") for shape in SHAPES]
    grammar += [word for relation in RELATIONS for word in relation.split(" ")]
    words = dict.fromkeys([*_SPECIAL_NAMES, *grammar, *_JUDGE_WORDS])
    return {word: number for number, word in enumerate(words)}


def build_tokenizer() -> Tokenizer:
    """The tokenizer. Words that it does not know become `<|unknown|>`; nothing is added around a text."""
    tokenizer = Tokenizer(models.WordLevel(vocabulary(), unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), behavior) for pattern, behavior in _SPLITS]
    )
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in _SPECIAL_NAMES])
    return tokenizer


def tokenizer_files() -> dict[str, str]:
    """Names and contents of the files with which `transformers.AutoTokenizer` loads the tokenizer."""
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": UNKNOWN,
        "additional_special_tokens": list(_SPECIAL_NAMES[1:]),
        "clean_up_tokenization_spaces": False,
        "model_max_length": 512,
    }
    return {
        "tokenizer.json": build_tokenizer().to_str(pretty=True),
        "tokenizer_config.json": json.dumps(settings, indent=2) + "\n",
    }
