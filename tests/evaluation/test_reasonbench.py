"""T2I-ReasonBench: made-up prompts and questions, the dialogue, lists of scores, and numbers made by hand."""

import csv
import json

import pytest

from srum_jax.errors import BadInput
from srum_jax.evaluation.benchmark import ItemScore
from srum_jax.evaluation.means import Scores
from srum_jax.evaluation.reasonbench import CATEGORIES, read_list
from srum_jax.evaluation.registry import open_benchmark
from srum_jax.rewards.judgement.calls import Reply
from tests.evaluation.replayed import Evaluation, reply


def pairs(count, odd=False):
    group = {}
    for number in range(1, count + 1):
        group |= {f"q{number}": f"is it so ({number})?", f"c{number}": "as it is"}
    if odd:
        del group[f"c{count}"]
    return group


# One item of each category; a reply's list of scores for each of its groups.
SCORES = {"idiom": ([1, 0.5], [1]), "textual": ([0.5, 0.5], [0.5]), "entity": ([1, 0], [0.5], [1]),
          "scientific": ([1, 1], [0], [0])}


def files():
    made = {}
    for category, (word, groups) in CATEGORIES.items():
        prompt = {"id": 1, "prompt": f"a {word}", "tag": "t"}
        made[f"{category}__json"] = [prompt]
        made[f"evaluation_{word}__json"] = [prompt | {"image_content": {"a": 1}} | {
            group: pairs(len(scores), odd=word == "idiom") for group, scores in zip(groups, SCORES[word], strict=True)}]
    return made


def replies(**changes):
    lines = []
    for category, (word, groups) in CATEGORIES.items():
        lines.append(reply(f"{category}-0001", f"A {word} is seen.", call="describe"))
        for group, scores in zip(groups, SCORES[word], strict=True):
            text = 'Here it is: ```json\n{"reason": "seen {so}", "score": SCORES}\n```'.replace("SCORES", str(scores))
            lines.append(reply(f"{category}-0001", changes.get(f"{word}_{group}", text), call=group))
    return lines


@pytest.fixture
def evaluation(tmp_path):
    return Evaluation(tmp_path, "reasonbench", **files())


@pytest.mark.parametrize(("text", "count", "scores"), [
    ('{"reason": "x", "score": [1, 0.5, 0]}', 3, [1, 0.5, 0]), ('so: {"score": [1.0]} and more', 1, [1]),
    ('{"score": [1, 1]}', 3, None), ('{"score": [0.7]}', 1, None), ('{"score": [true]}', 1, None),
    ('{"score": ["1"]}', 1, None), ('{"score": 1}', 1, None), ("[1]", 1, None), ("", 1, None),
])
def test_a_reply_has_one_allowed_score_for_each_question_or_is_a_failure(text, count, scores):
    assert read_list(text, count) == scores


def test_recorded_replies_give_the_numbers_made_by_hand(evaluation):
    assert evaluation.run(replies()) == 0
    means = evaluation.means
    accuracy = {"idiom_interpretation": 75, "textual_image_design": 50,
                "entity_reasoning": 100 * (0.7 * 0.5 + 0.3 * 0.5), "scientific_reasoning": 70}
    assert {name: means[name] for name in accuracy} == pytest.approx(accuracy)
    assert means["overall"] == pytest.approx(sum(accuracy.values()) / 4)
    assert [means[f"{name}_quality"] for name in accuracy] == [100, 50, 100, 0]
    rows = list(csv.DictReader((evaluation.out / "tables" / "entity_reasoning.csv").read_text().splitlines()))
    assert list(rows[0]) == ["id", "prompt", "answer_1", "answer_2", "score_entity", "answer_3", "score_detail",
                             "answer_4", "score_qual", "score_e_avg", "score_d_avg", "score_q_avg"]
    assert rows[0]["score_entity"] == "[1.0, 0.0]" and rows[0]["score_d_avg"] == "0.5"
    with (evaluation.out / "tables" / "idiom_interpretation.csv").open() as file:
        assert file.readline() == ("id,prompt,answer_1,answer_2,score_acc,answer_3,score_qual,score_a_avg,"
                                   "score_q_avg\n")


def test_a_wrong_number_of_scores_is_a_failure_that_is_listed(evaluation):
    wrong = '{"score": [1]}'
    again = [reply("entity_reasoning-0001", wrong, call="entity_evaluation", attempt=attempt) for attempt in (2, 3)]
    assert evaluation.run([*replies(entity_entity_evaluation=wrong), *again]) == 3
    found = evaluation.results
    assert found["scores"]["overall"] is None
    assert "entity_evaluation: expected 2 scores" in found["failed"]["entity_reasoning-0001"]


@pytest.mark.parametrize(("row", "overall"), [
    ((34.46, 43.59, 49.70, 47.52), 43.8175), ((39.43, 44.08, 50.53, 47.45), 45.3725),
    ((40.51, 45.83, 52.85, 47.83), 46.755)])
def test_the_overall_number_of_every_row_of_table_4_is_the_mean_of_its_accuracies(row, overall):
    benchmark = open_benchmark("reasonbench", template="")
    items = benchmark.items({name.replace("__", "."): json.dumps(data).encode() for name, data in files().items()})
    values = dict(zip(CATEGORIES, row, strict=True))
    scores = {item.id: ItemScore(item.id, item.category, {"accuracy": values[item.category], "quality": 0.0})
              for item in items}
    assert Scores(items, scores).mean(benchmark.totals(items)[-1]).mean == pytest.approx(overall)


def test_every_group_is_asked_from_the_same_start_of_the_dialogue():
    benchmark = open_benchmark("reasonbench", "srum_jax-1")
    items = benchmark.items({name.replace("__", "."): json.dumps(data).encode() for name, data in files().items()})
    talk = benchmark.calls(items[2], 0)
    calls = [next(talk)]
    assert calls[0].kind == "describe" and not calls[0].history
    for text in ("A cup on a table.", '{"score": [1, 0]}', '{"score": [1]}'):
        calls.append(talk.send(Reply(text, 3, True)))
    assert [call.kind for call in calls[1:]] == list(CATEGORIES["entity_reasoning"][1])
    assert {call.history for call in calls[1:]} == {((calls[0].text, "A cup on a table."),)}
    assert "1. is it so (1)? (as it is)\n2. is it so (2)?" in calls[1].text and calls[1].max_new_tokens == 1000


def test_ids_that_only_one_of_two_files_has_are_an_error():
    benchmark, made = open_benchmark("reasonbench", template=""), files()
    made["evaluation_idiom__json"][0]["id"] = 2
    with pytest.raises(BadInput, match=r"idiom_interpretation: expected the same ids .* found \[1, 2\]"):
        benchmark.items({name.replace("__", "."): json.dumps(data).encode() for name, data in made.items()})
    with pytest.raises(BadInput, match=r"other\.json: expected one of the words"):
        benchmark.items({"other.json": b'[{"id": 1, "prompt": "x"}]'})
