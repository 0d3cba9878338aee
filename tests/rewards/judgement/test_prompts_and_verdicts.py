import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srum_jax.rewards.judgement.verdict import Shows, verdict, verdict_of_object
from srum_jax.rewards.judgement.words import has_directive, keywords, lemma, tokens
from tests.golden import WIDER
from tests.rewards.judgement.vectors import vectors


def test_keywords_and_directives_of_the_worked_examples():
    for case in vectors("keywords"):
        assert keywords(case["prompt"]) == case["keywords"], case
        assert has_directive(case["prompt"]) == case["has_directive"], case


def published(name: str) -> list[dict]:
    path = WIDER.parent / "data" / name
    if not path.exists():
        pytest.skip(f"no prompts at {path}")
    return json.loads(path.read_text())


@pytest.mark.parametrize(("name", "directives"), [("train_comp.json", 2065), ("val_comp.json", 894)])
def test_every_published_prompt_has_keywords_and_as_many_have_a_directive_as_was_counted(name, directives):
    prompts = [entry["Question"] for entry in published(name)]
    assert all(map(keywords, prompts))
    assert sum(map(has_directive, prompts)) == directives


def test_verdicts_of_the_worked_examples():
    for case in vectors("verdicts"):
        found = verdict_of_object(case["object"], case["keywords"])
        assert (found.shows, found.keyword) == (case["verdict"], case["keyword"]), case


@pytest.mark.parametrize(("word", "base"), [
    ("knives", "knife"), ("berries", "berry"), ("benches", "bench"), ("boxes", "box"), ("tomatoes", "tomato"),
    ("glasses", "glasses"), ("glass", "glass"), ("cactus", "cactus"), ("iris", "iris"), ("dogs", "dog"),
])
def test_base_forms(word, base):
    assert lemma(word) == base


def test_tokens_keep_inner_marks_and_lose_a_possessive():
    assert tokens("The Dog's T-shirt, x2!") == ["the", "dog", "t-shirt", "x2"]


@pytest.mark.parametrize(("object_text", "claim", "shows", "keyword", "flags"), [
    ("a brown horse", "horse", "match", "horse", ()),
    ("the floor", "horse", "match", "horse", ("claim_only",)),
    ("a balloon", "horse", "match", "horse", ("claim_only",)),
    ("a brown horse", "BACKGROUND", "match", "horse", ("claim_differs",)),
    ("a balloon", "BACKGROUND", "background", None, ()),
    ("a brown horse", "NONE", "match", "horse", ("claim_differs",)),
    ("a brown horse", None, "match", "horse", ("claim_differs",)),
    ("the floor", None, "background", None, ()),
    ("a balloon", "none", "unmatched", None, ()),
    ("a balloon", "zebra", "unmatched", None, ("bad_claim",)),
    ("a brown horse", "zebra", "match", "horse", ("bad_claim",)),
])
def test_claims_and_names_are_combined_as_the_table_says(object_text, claim, shows, keyword, flags):
    found = verdict(object_text, claim, ["microwave", "horse"])
    assert (found.shows, found.keyword, found.flags) == (shows, keyword, flags)


def test_strictly_a_claim_alone_is_not_enough():
    assert verdict("the floor", "horse", ["horse"], strict=True).shows is Shows.BACKGROUND


def test_own_synonyms_replace_the_shipped_ones():
    assert verdict_of_object("a steed", ["horse"], [["horse", "steed"]]).keyword == "horse"
    assert verdict_of_object("a couch", ["sofa"], []).shows is Shows.UNMATCHED


@given(st.text(max_size=200))
def test_any_prompt_has_keywords_that_are_its_own_words(prompt):
    found = keywords(prompt)
    assert len(found) == len(set(found))
    assert set(found) <= {lemma(word) for word in tokens(prompt)}
    has_directive(prompt)


@given(st.text(max_size=80), st.one_of(st.none(), st.text(max_size=20)), st.lists(st.text(max_size=8), max_size=4))
def test_any_reply_gets_a_verdict(object_text, claim, names):
    found = verdict(object_text, claim, names)
    assert (found.keyword in names) if found.shows is Shows.MATCH else found.keyword is None
