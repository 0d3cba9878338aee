from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from srum_jax.families.blip3o.request_reader import RequestReader
from srum_jax.inference.opened import Opened
from srum_jax.inference.requests import Question, RequestError
from srum_jax.inference.settings import TextSampler
from srum_jax.models.blip3o.patches import arrange
from srum_jax.models.blip3o.positions import understanding_positions
from tests.families.blip3o.small_pipeline import answerer, picture, small_files

SHORT = TextSampler(max_tokens=6)
QUESTIONS = [Question("what is in the picture", (picture(),)), Question("what is it"),
             Question("which is red", (picture(100, 40, seed=1), picture(64, 64, seed=2)))]


@pytest.fixture(scope="module")
def answers():
    return answerer().answer(QUESTIONS, sampler=SHORT)


@pytest.mark.slow
def test_an_answer_does_not_depend_on_its_batch_whatever_pictures_the_others_have(answers):
    assert [answerer().answer([question], sampler=SHORT)[0] for question in QUESTIONS] == answers


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 2])
def test_an_answer_is_what_the_model_says_without_a_cache(answers, number):
    programs, reader = answerer().programs, RequestReader(small_files())
    config, question = programs.config, reader.question(QUESTIONS[number])
    written = answerer().opened.tokenizer.encode(answers[number].raw)
    assert len(written) == SHORT.max_tokens - 1
    prompt = reader.asking(question.prompt, question.pictures)
    ids = np.asarray([[*prompt, *written[:-1]]])
    pictures = arrange([(item.patches, item.grid) for item in question.pictures], config.vision)
    grids = [(rows // 2, columns // 2) for rows, columns in (item.grid for item in question.pictures)]
    position, _ = understanding_positions(ids, np.ones_like(ids, bool), grids, config.special_tokens.image_pad)
    model = programs.model
    with jax.set_mesh(programs.mesh):
        x = model.embed_conversation(jnp.asarray(ids), pictures, programs.compute)
        hidden = model.hidden(x, jnp.ones(ids.shape, bool), jnp.asarray(position), programs.compute)
        logits = np.asarray(model.llm.logits(hidden[0, len(prompt) - 1:]))
    assert np.argmax(logits, -1).tolist() == written


@pytest.mark.slow
def test_the_instruction_to_think_takes_the_place_of_the_usual_system_text(answers):
    reader = RequestReader(small_files())
    usual, thinking = (reader.asking("what is it", (), think=think) for think in (False, True))
    assert usual[-8:] == thinking[-8:] and len(thinking) > len(usual) + 10
    assert answerer().answer(QUESTIONS[:1], sampler=SHORT, think=True)[0].raw != answers[0].raw


def test_pictures_are_turned_upright_and_transparency_is_put_on_white(answers):
    upright = Image.fromarray(picture())
    exif = Image.Exif()
    exif[0x0112] = 8  # to be turned a quarter to the left
    lying = upright.transpose(Image.Transpose.ROTATE_270)
    lying.info["exif"] = exif.tobytes()
    reader = RequestReader(small_files())
    read = [reader.question(Question("what", (image,))).pictures[0].patches
            for image in (upright, lying, upright.convert("RGBA"))]
    assert np.array_equal(read[0], read[1]) and np.array_equal(read[0], read[2])
    clear = Image.new("RGBA", (56, 56), (0, 0, 0, 0))
    white = Image.new("RGB", (56, 56), (255, 255, 255))
    read = [reader.question(Question("what", (image,))).pictures[0].patches for image in (clear, white)]
    assert np.array_equal(*read)


@pytest.mark.parametrize("wrong, field", [
    (Question("what", (picture(10, 3000),)), "image"),
    (Question("what", (picture(0, 8),)), "image"),
    (Question("what", picture()), "image"),
    (Question("what", (picture(), picture(700, 700))), "image"),  # more tokens than there are positions
    (Question(" ", ()), "prompt"),
    (Question("what", seed=-1), "seed"),
])
def test_what_it_cannot_answer_is_refused_by_the_field(wrong, field):
    with pytest.raises(RequestError, match=f"request 0: {field}: "):
        answerer().answer([wrong])


def test_a_question_that_holds_the_mark_of_a_picture_is_refused_where_control_tokens_act():
    reader = RequestReader(small_files(control_tokens=True))
    with pytest.raises(RequestError, match=r"prompt: .*<\|image_pad\|>"):
        reader.question(Question("what <|image_pad|>", (picture(),)))


def test_a_model_that_was_loaded_without_its_tower_refuses_pictures():
    blind = Opened(**vars(small_files()), programs=SimpleNamespace(model=SimpleNamespace(vision=None)))
    with pytest.raises(RequestError, match="vision tower"):
        RequestReader(blind).question(QUESTIONS[0])
