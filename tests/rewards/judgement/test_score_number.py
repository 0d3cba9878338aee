"""Every plain notation of a score is read; no notation with a scale of its own ever is."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srum_jax.rewards.judgement.judge_reply import parse_image_reply
from srum_jax.rewards.judgement.score_number import parse_score

MINUS = ["-", "\u2010", "\u2011", "\u2012", "\u2013", "\u2212", "\ufe63", "\uff0d"]
FULL_WIDTH = str.maketrans({chr(code): chr(code + 0xFEE0) for code in range(0x21, 0x7F)})
HUNDREDTHS = st.integers(-100, 100)

# A foreign scale behind a number, in every way in which models were seen to write one.
ENDS = st.sampled_from([
    "10", "5", "100", "10.0", "1.5", "1000", "1,000", "10.", "ten", "five", "a hundred", "\uff11\uff10", "\u5341",
    "20"])
SCALES = st.one_of(
    st.tuples(st.sampled_from([
        "/", " / ", "\uff0f", "\u2044", "\u2215", " out of ", " of ", " from ", " over ", " in ", ":", " to ", " von ",
        " sur ", " points out of ", " point of ", " stars of ", " (out of ", " (of ", " [of ", " (max ", " (maximum ",
        " (scale ", " (scale: 1-", " (1-", " (0 to ", " [1, ", " on a scale of 1 to ", " on a scale from 0 to ",
        ", on a scale of ", ". On a scale of 1 to ", " - out of ", " - scale 1-", "; scale: ", " (\u6ee1\u5206",
        " (points: 1 of ", " (the best is ", " (", "\n/", "\nout of ", "\n(scale of 1 to "]), ENDS).map("".join),
    st.sampled_from([
        "%", " %", "\uff05", "\u2030", " percent", " per cent", " pct", " points", " point", " pts", " stars", " star",
        "\u5206", " \u5206", "\u661f", " (percent)", " - percent", ", in percent", " (points)", " (two stars)", "x",
        " of the maximum ten", " thousandths", " tenths", " (in tenths)", " hundred", "e1", "E+1", "0 %", "*10",
        " x 10",
        " \u00d7 10", "^2", "\u00b2", "\u00bd", " 1/2", "k", " out of a possible hundred", " (half of the maximum)",
        " (rank)", " (lowest)", " (worst)", " on a scale of 0 to 1", " (0-1)", " (between 0 and 1)"]),
)


def written(hundredths: int, minus: str, plus: bool, style: str) -> str:
    """A number of hundredths as somebody may plainly write it."""
    text = f"{abs(hundredths) / 100:.2f}"
    if style == "short":
        text = text.rstrip("0").rstrip(".")
    if style == "point" and text.startswith("0."):
        text = text[1:]
    sign = minus if hundredths < 0 else "+" if plus else ""
    return f"{sign}{text}".translate(FULL_WIDTH) if style == "full-width" else f"{sign}{text}"


NUMBERS = st.tuples(HUNDREDTHS, st.builds(
    lambda minus, plus, style: (minus, plus, style), st.sampled_from(MINUS), st.booleans(),
    st.sampled_from(["long", "short", "point", "full-width"]),
)).map(lambda pair: (pair[0] / 100, written(pair[0], *pair[1])))
DRESSES = st.sampled_from(["{}", "**{}**", "`{}`", "_{}_", "[{}]", "({})", "**[{}]**", '"{}"', "\u201c{}\u201d",
                           "\uff08{}\uff09", "  {}  ", "{}**", "**{}", "{{{}}}", "{}.", "{};", "**{}.**", "{}\u3002"])
OWN_SCALES = st.sampled_from(["", "", "/1", " / 1", "/1.0", " out of 1", " out of 1.0", " of 1", " (out of 1)", " (/1)",
                              " (on a scale from -1 to 1)", " on a scale of -1.0 to 1.0", " [-1, 1]", " (-1 to 1)",
                              " (scale: -1 to 1)", " in [-1, 1]", "\uff08\u6ee1\u52061\uff09"])
REMARKS = st.sampled_from(["", "", " (very good)", ", a sharp horse", " - the horse", " \u2014 well drawn", ". Fine",
                           "; soft edges", "\uff08\u5f88\u597d\uff09", "\uff0c\u5f88\u597d", " (not perfect)"])


@given(NUMBERS, DRESSES, OWN_SCALES)
def test_every_plain_notation_is_read(number, dress, scale):
    value, text = number
    if dress[-1] in ".;\u3002*" and scale:
        dress = "{}"
    found = parse_score(dress.format(text) + scale)
    assert found.problem is None and found.value == pytest.approx(value), (dress.format(text) + scale, found)


@given(NUMBERS, REMARKS)
def test_a_harmless_remark_behind_a_fraction_is_passed_over(number, remark):
    value, text = number
    if value in (-1, 0, 1):
        text += "/1"  # a bare one with a remark is not plain, see below
    assert parse_score(text + remark).value == pytest.approx(value), text + remark


@given(NUMBERS, DRESSES, SCALES, REMARKS)
def test_no_notation_with_a_foreign_scale_is_ever_read(number, dress, scale, remark):
    for text in (number[1] + scale + remark, dress.format(number[1]) + scale + remark,
                 dress.format(number[1] + scale) + remark):
        for reply in (f"SCORE: {text}", f"**Layout Score:** {text}\nREASON: fine", f"Score\uff1a{text}\n"):
            assert parse_image_reply(reply).fields.score.value is None, reply


@given(st.text(max_size=12))
def test_whatever_stands_behind_a_one_it_is_one_or_nothing(tail):
    found = parse_score("1" + tail)
    assert found.value in (None, 1.0) and (found.value is None) == (found.problem is not None)
    if found.value is not None:
        kept = tail.strip(" \t\n*_`.,;!\u3002")
        assert not any(character.isnumeric() for character in kept.replace("1", "").replace("0", "")), tail


@pytest.mark.parametrize(("text", "value", "problem"), [
    ("1 (out of 10)", None, "out_of_range"),
    ("1 of 5", None, "out_of_range"),
    ("1 on a scale of 1 to 10", None, "unclear_number"),
    ("1 point out of 10", None, "unclear_number"),
    ("1 out of ten", None, "unclear_number"),
    ("1 percent", None, "out_of_range"),
    ("0.5-0.7", None, "is_a_range"),
    ("0.5~0.7", None, "is_a_range"),
    ("[0.5, 0.7]", None, "unclear_number"),
    ("0.5 or 0.7", None, "unclear_number"),
    ("0.5\u00b10.1", None, "unclear_number"),
    ("1e-1", None, "unclear_number"),
    ("1.0.0", None, "unclear_number"),
    ("0.5*2", None, "unclear_number"),
    ("\u20140.5", None, "no_number"),
    ("> 0.5", None, "no_number"),
    ("~0.5", None, "no_number"),
    ("minus 0.5", None, "no_number"),
    ("\uff10\uff0c\uff18", None, "ambiguous_decimal"),
    ("1 (perfect match)", 1.0, None),
    ("1 (very poor)", None, "unclear_number"),
    ("0 (neutral)", 0.0, None),
    ("0 (no match)", None, "unclear_number"),
    ("1/1 (as asked)", 1.0, None),
    ("0.9, two cats", None, "unclear_number"),
    ("-0", 0.0, None),
    ("1.0000001", 1.0, None),
    ("9" * 5000, None, "out_of_range"),
])
def test_notations_one_by_one(text, value, problem):
    found = parse_score(text)
    assert (found.value, found.problem) == (value, problem)
    assert found.value != 0 or math.copysign(1, found.value) == 1


def test_an_amount_has_its_own_range():
    assert parse_score("0 (no damage at all)", low=0.0).value == 0.0
    assert parse_score("0.5 on a scale from 0 to 1", low=0.0).value == 0.5
    assert parse_score("0.5 (-1 to 1)", low=0.0).problem == "unclear_number"
    assert parse_score("-0.5", low=0.0).problem == "out_of_range"
