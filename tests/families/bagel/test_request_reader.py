"""What a prompt may hold, found out before any weight is read."""

import dataclasses

import pytest

from srum_jax.errors import BadInput
from srum_jax.families.bagel.request_reader import RequestReader
from srum_jax.inference.opened import SmallFiles
from srum_jax.inference.requests import ImageRequest, Question, RequestError
from srum_jax.inference.templates import Templates
from tests.families.bagel.small_pipeline import NumberTokenizer
from tests.models.packs import small_config  # 64 embeddings; the control tokens are 60 to 63

FILES = SmallFiles(small_config(), NumberTokenizer(), Templates.read())


class Plain(NumberTokenizer):
    """Reads numbers of control tokens as two tokens each, unless they are asked for."""

    def encode(self, text, *, control_tokens=False):
        ids = super().encode(text)
        parts = [[token] if token < 60 or control_tokens else [6, token - 60] for token in ids]
        return [token for part in parts for token in part]


@pytest.mark.parametrize("kind", [ImageRequest, Question])
def test_control_tokens_of_a_prompt_are_text_unless_they_are_asked_to_act(kind):
    files = dataclasses.replace(FILES, tokenizer=Plain())

    def read(files):
        reader = RequestReader(files)
        return (reader.image if kind is ImageRequest else reader.question)(kind("5 61 7", seed=0)).prompt

    assert read(files) == [5, 6, 1, 7]
    assert read(dataclasses.replace(files, control_tokens=True)) == [5, 61, 7]


@pytest.mark.parametrize("token", [60, 61, 62, 63])
def test_a_control_token_that_cannot_be_read_as_text_is_refused_by_name(token):
    with pytest.raises(RequestError, match=f"prompt: .*control token '{token}'"):
        RequestReader(FILES).check(ImageRequest(f"5 {token}", 0))
    RequestReader(dataclasses.replace(FILES, control_tokens=True)).check(ImageRequest(f"5 {token}", 0))


@pytest.mark.parametrize("kind", [ImageRequest, Question])
def test_a_token_beyond_the_embedding_is_the_tokenizers_fault(kind):
    RequestReader(FILES).check(kind("59", seed=0))
    with pytest.raises(BadInput, match=r"token 64 .* 64 embeddings"):
        RequestReader(FILES).check(kind("5 64", seed=0))


def test_so_is_one_in_the_instructions_of_think_mode():
    templates = Templates("1 <think> 70 </think>", "<think> </think>")
    with pytest.raises(BadInput, match="instruction of think mode has token 70"):
        RequestReader(dataclasses.replace(FILES, templates=templates))
