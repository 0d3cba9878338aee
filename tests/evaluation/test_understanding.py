"""MME and MMVP: rules for answers, points made by hand, and the files of the official scorers."""

import json

import pytest

from srum_jax.errors import BadInput
from srum_jax.evaluation.mme import COGNITION, PERCEPTION, answer_of
from srum_jax.evaluation.mmvp import option_of
from srum_jax.evaluation.registry import open_benchmark
from tests.evaluation.replayed import Evaluation, reply

QUESTIONS = (b"Index,Question,Options,Correct Answer\n"
             b"1,Is it open?,(a) yes (b) no,(a)\n2,Is it open?,(a) yes (b) no,(b)\n"
             b"3,\"Left, or right?\",(a) left (b) right,(a)\n4,\"Left, or right?\",(a) left (b) right,(b)\n")


def mme_files():
    lines = b"a.jpg\tIs it a cup?\tYes\na.jpg\tIs it a dog?\tNo\nb.jpg\tIs it a dog?\tYes\nb.jpg\tIs it a cup?\tNo\n"
    return {f"{task}__txt": lines for task in PERCEPTION | COGNITION}


def mme_replies(answers):
    return [reply(f"{task}-{number:03d}", text, call=kind) for task in PERCEPTION | COGNITION
            for number, pair in enumerate(answers) for kind, text in zip(("first", "second"), pair, strict=True)]


@pytest.mark.parametrize(("text", "answer"), [
    ("Yes", "yes"), ("yes, it is", "yes"), ("No.", "no"), ("  NO", "no"), ("True", "yes"), ("false", "no"),
    ("It is, yes", "other"), ("", "other"), ("maybe", "other"), ("<no>", "no")])
def test_an_answer_of_mme_is_what_its_first_four_characters_say(text, answer):
    assert answer_of(text) == answer


def test_three_of_four_answers_and_one_of_two_pictures_are_125_points(tmp_path):
    evaluation = Evaluation(tmp_path, "mme", **mme_files())
    assert evaluation.run(mme_replies([("Yes", "No."), ("Yes", "yes")])) == 0
    means = evaluation.means
    assert {means[task] for task in PERCEPTION | COGNITION} == {125}
    assert (means["perception"], means["cognition"], means["overall"]) == (1250, 500, 1750)
    assert (evaluation.out / "tables" / "OCR.txt").read_text().splitlines()[0] == "a.jpg\tIs it a cup?\tYes\tYes"


def test_an_answer_that_is_neither_is_wrong_and_no_failure(tmp_path):
    evaluation = Evaluation(tmp_path, "mme", **mme_files())
    assert evaluation.run(mme_replies([("It depends", "No"), ("Yes", "No")])) == 0
    assert evaluation.means["count"] == 125 and evaluation.results["num_failed"] == 0


def test_the_tasks_of_mme_have_2374_questions():
    assert 2 * sum((PERCEPTION | COGNITION).values()) == 2374 and len(PERCEPTION) == 10 and len(COGNITION) == 4
    benchmark = open_benchmark("mme")
    items = benchmark.items({name.replace("__", "."): data for name, data in mme_files().items()})
    paths = {item.category: benchmark.image(item, 0) for item in items}
    assert paths["posters"] == "posters/images/b.jpg" and paths["OCR"] == "OCR/b.jpg"


@pytest.mark.parametrize(("name", "data", "message"), [
    ("colour.txt", b"a\tb\tYes\n", "expected a file named after a task"),
    ("color.txt", b"a\tb\n", "color.txt:1: expected picture, question and Yes or No"),
    ("color.txt", b"a\tb\tYes\n", "color.txt: a: expected two questions, found 1")])
def test_a_file_of_mme_that_cannot_be_used_is_named(name, data, message):
    with pytest.raises(BadInput, match=message):
        open_benchmark("mme").items({name: data})


@pytest.mark.parametrize(("text", "option"), [
    ("(a)", "a"), ("(B) no", "b"), ("a", "a"), ("B. no", "b"), ("The answer is (b).", "b"), ("The answer is b", "b"),
    ("a cup", "a"), ("neither", None), ("", None)])
def test_an_option_of_mmvp_is_a_letter_in_brackets_or_at_an_end(text, option):
    assert option_of(text) == option


def test_a_pair_of_mmvp_counts_if_both_answers_are_right(tmp_path):
    evaluation = Evaluation(tmp_path, "mmvp", Questions__csv=QUESTIONS)
    answers = [("001", 0, "(a)"), ("001", 1, "(b)"), ("002", 0, "(a)"), ("002", 1, "(a)")]
    assert evaluation.run([reply(item, text, call="answer", image=image) for item, image, text in answers]) == 0
    assert evaluation.means == {"single_answers": 75, "overall": 50, "overall_stderr": 50}
    lines = [json.loads(line) for line in (evaluation.out / "tables" / "results.jsonl").read_text().splitlines()]
    assert lines[3] == {"question": "Left, or right?", "answer": "(a)", "gt_answers": "(b)", "data_id": 4}


def test_the_two_questions_of_a_pair_are_asked_about_their_own_pictures():
    benchmark = open_benchmark("mmvp")
    _, item = benchmark.items({"Questions.csv": QUESTIONS})
    assert [benchmark.image(item, number) for number in (0, 1)] == ["MMVP Images/3.jpg", "MMVP Images/4.jpg"]
    call = next(benchmark.calls(item, 1))
    assert call.text.startswith("Left, or right?\n(a) left (b) right") and call.subject_id == "002/1"


def test_pictures_have_to_be_given(tmp_path, capsys):
    from srum_jax import evaluate

    (tmp_path / "Questions.csv").write_bytes(QUESTIONS)
    assert evaluate.main(["--benchmark", "mmvp", "--prompts", str(tmp_path / "Questions.csv"), "--out",
                          str(tmp_path / "out"), "--judge", "oracle"]) == 2
    assert "--images: expected the folder with the pictures of mmvp" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
