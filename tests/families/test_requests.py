"""What a request may hold, in every family; the weights are not read."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from srum_jax.errors import BadInput
from srum_jax.families.registry import family
from srum_jax.inference.requests import ImageRequest, Question, RequestError
from srum_jax.pipeline import small_files
from tests.families.tiny import TINY_BASES


@pytest.fixture(params=TINY_BASES, ids=lambda base: base.family)
def base(request):
    return request.param


def reader_of(base, control_tokens=False, **changes):
    found = family(base.family)
    files = small_files(found, base.checkpoint(), control_tokens=control_tokens)
    return found.checker(dataclasses.replace(files, **changes))


def test_what_it_was_made_for_is_accepted(base):
    reader = reader_of(base)
    reader.check(ImageRequest(base.prompts[0], 0))
    reader.check(Question(base.question, (base.picture,)))


def test_a_control_token_in_a_prompt_is_text_or_refused_by_name_unless_it_may_act(base):
    files = small_files(family(base.family), base.checkpoint())
    token = dataclasses.astuple(files.config.special_tokens)[1]
    name = files.tokenizer.decode([token])
    for asked in (ImageRequest(f"a red {name} circle", 0), Question(f"a red {name} circle")):
        try:
            reader_of(base).check(asked)
        except RequestError as error:
            assert "prompt: " in str(error) and name in str(error)
        else:
            assert token not in reader_of(base)._prompt(asked.prompt)
        assert token in reader_of(base, control_tokens=True)._prompt(asked.prompt)
        reader_of(base, control_tokens=True).check(asked)


def test_a_token_beyond_the_embedding_is_the_tokenizers_fault_and_told_without_weights(base):
    files = small_files(family(base.family), base.checkpoint())
    word = max(files.tokenizer.encode(base.prompts[0]))
    smaller = dataclasses.replace(files.config, llm=dataclasses.replace(files.config.llm, vocab_size=word))
    with pytest.raises(BadInput, match=rf"tokenizer\.json: .* {word} embeddings") as caught:
        reader_of(base, config=smaller).check(ImageRequest(base.prompts[0], 0))
    assert not isinstance(caught.value, RequestError)


def test_a_picture_on_its_side_is_read_as_the_upright_one(base):
    upright, exif = Image.fromarray(base.picture), Image.Exif()
    exif[0x0112] = 8  # to be turned a quarter to the left
    lying = upright.transpose(Image.Transpose.ROTATE_270)
    lying.info["exif"] = exif.tobytes()
    read = [reader_of(base).question(Question(base.question, (picture,))) for picture in (upright, lying)]
    first, second = (list(_arrays(item)) for item in read)
    assert first and all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def _arrays(value):
    if isinstance(value, (np.ndarray, Image.Image)):
        yield np.asarray(value)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _arrays(getattr(value, field.name))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _arrays(item)
