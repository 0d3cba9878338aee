import argparse
import dataclasses
import enum
import json
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srum_jax.families.bagel.config import BagelRows
from srum_jax.overrides import (
    OverrideError,
    add_set_argument,
    apply_overrides,
    describe,
    field_names,
    together,
)
from srum_jax.rewards.reward_map import BINARIZATIONS, BOX_SPACES, EDGES, OVERLAPS, RESIZES, RewardMapConfig
from srum_jax.training.experiment import Experiment


@dataclasses.dataclass(frozen=True)
class Window:
    low: int = 0
    high: int = 10
    label: str = "a"
    limit: float | None = None

    def __post_init__(self):
        if self.low > self.high:
            raise ValueError(f"window.low: expected at most high {self.high}, found {self.low}.")


@dataclasses.dataclass(frozen=True)
class Settings:
    name: str
    rate: float = 0.5
    exact: bool = False
    patterns: tuple[str, ...] = ("x",)
    pair: tuple[int, float] = (1, 2.0)
    window: Window = dataclasses.field(default_factory=Window)
    extra: Window | None = None


BASE = Settings("base")


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("rate=3", dataclasses.replace(BASE, rate=3.0)),
        ("rate=1e-5", dataclasses.replace(BASE, rate=1e-5)),
        ("exact=true", dataclasses.replace(BASE, exact=True)),
        ("exact=False", dataclasses.replace(BASE, exact=False)),
        ("name=12", dataclasses.replace(BASE, name="12")),
        ('name="a b"', dataclasses.replace(BASE, name="a b")),
        ("name=a=b", dataclasses.replace(BASE, name="a=b")),
        ("patterns=a.*,b.*", dataclasses.replace(BASE, patterns=("a.*", "b.*"))),
        ('patterns=["a,b", "c"]', dataclasses.replace(BASE, patterns=("a,b", "c"))),
        ("patterns=", dataclasses.replace(BASE, patterns=())),
        ("pair=3,4", dataclasses.replace(BASE, pair=(3, 4.0))),
        ("window.limit=2", dataclasses.replace(BASE, window=Window(limit=2.0))),
        ("window.limit=none", BASE),
        (" window.high = 7 ", dataclasses.replace(BASE, window=Window(high=7))),
        ("extra.high=7", dataclasses.replace(BASE, extra=Window(high=7))),
        ("extra=none", BASE),
    ],
)
def test_a_setting_is_read_as_the_type_of_its_field(setting, expected):
    changed = apply_overrides(BASE, [setting])
    assert changed == expected
    assert type(changed.rate) is float and type(changed.pair[1]) is float


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("window.hihg=3", "--set window.hihg: no such setting; the nearest is window.high."),
        ("wndow.high=3", "--set wndow.high: no such setting; the nearest is window.high."),
        ("rate.x=3", "--set rate.x: no such setting; the nearest is rate."),
        ("rate=fast", "--set rate: expected float, found 'fast'."),
        ("window.high=1.5", "--set window.high: expected int, found '1.5'."),
        ("window.high=true", "--set window.high: expected int, found 'true'."),
        ("exact=1", "--set exact: expected bool, found '1'."),
        ("rate=none", "--set rate: expected float, found 'none'."),
        ("window.limit=x", "--set window.limit: expected float | None, found 'x'."),
        ("pair=1", "--set pair: expected tuple[int, float], found '1'."),
        ("patterns=[1]", "--set patterns: expected tuple[str, ...], found '[1]'."),
        ("window=3", "--set window: names a group; set one of window.low, window.high"),
        ("rate", "--set rate: expected NAME=VALUE, for instance training.steps=200."),
        ("window.low=11", "--set window.low=11: window.low: expected at most high 10, found 11."),
    ],
)
def test_a_setting_that_cannot_be_used_says_what_was_expected_and_what_was_found(setting, message):
    with pytest.raises(OverrideError) as error:
        apply_overrides(BASE, [setting])
    assert message in str(error.value)


def test_settings_that_only_go_together_may_come_in_any_order():
    expected = Window(low=20, high=30)
    assert apply_overrides(BASE, ["window.low=20", "window.high=30"]).window == expected
    assert apply_overrides(BASE, ["window.high=30", "window.low=20"]).window == expected


def test_the_last_of_two_values_for_one_setting_counts():
    assert apply_overrides(BASE, ["rate=1", "rate=2"]).rate == 2


def test_a_group_of_which_only_the_instance_is_known_is_set_by_its_own_fields():
    experiment = Experiment("x", rows=BagelRows())
    assert apply_overrides(experiment, ["rows.stride=32", "rows.latents=stored"]).rows == BagelRows(
        stride=32, latents="stored")
    with pytest.raises(OverrideError, match=r"rows\.strde: no such setting; the nearest is rows\.stride"):
        apply_overrides(experiment, ["rows.strde=32"])
    assert "rows.stride=16" in describe(experiment)


def typed(name, text):
    return apply_overrides(BASE, [f"{name}={text}"])


@given(st.integers())
def test_every_whole_number_is_read_back(value):
    high = max(value, 10)
    changed = apply_overrides(BASE, [f"window.low={value}", f"window.high={high}"])
    assert changed.window == Window(low=value, high=high)


@given(st.floats(allow_nan=False))
def test_every_number_is_read_back_exactly(value):
    assert typed("rate", repr(value)).rate == value
    assert typed("window.limit", repr(value)).window.limit == value


@given(st.text(alphabet=st.characters(exclude_categories=("Cs",))))
def test_every_text_is_read_back_as_json_and_most_as_it_stands(value):
    assert typed("name", json.dumps(value)).name == value
    if value == value.strip() and not value.startswith('"'):
        assert typed("name", value).name == value


@given(st.lists(st.text(alphabet="abc.*=[]-", min_size=1)))
def test_every_list_of_texts_is_read_back(value):
    assert typed("patterns", json.dumps(value)).patterns == tuple(value)
    if not (value and value[0].startswith("[")):
        assert typed("patterns", ",".join(value)).patterns == tuple(value)


@given(st.builds(
    RewardMapConfig, variant=st.just("paper"), overlap=st.sampled_from(OVERLAPS), edge=st.sampled_from(EDGES),
    resize=st.sampled_from(RESIZES), use_global=st.booleans(), use_local=st.booleans(),
    binarize=st.sampled_from(BINARIZATIONS), box_space=st.sampled_from(BOX_SPACES),
))
def test_every_reward_map_can_be_set_by_name(value):
    fields = dataclasses.fields(value)
    settings = [f"objective.reward_map.{field.name}={getattr(value, field.name)}" for field in fields]
    changed = apply_overrides(Experiment("x"), settings)
    assert changed.objective.reward_map == value


@given(st.text())
def test_whatever_is_typed_is_used_or_refused_in_words(text):
    for name in ("rate", "exact", "patterns", "pair", "window.high", "window.limit", text):
        try:
            typed(name, text)
        except OverrideError as error:
            assert "--set" in str(error)


def test_a_group_that_may_be_absent_comes_and_goes():
    there = apply_overrides(BASE, ["extra.low=2", "extra.high=3"])
    assert there.extra == Window(low=2, high=3)
    assert apply_overrides(there, ["extra.label=b"]).extra == Window(2, 3, "b")
    assert apply_overrides(there, ["extra=none"]) == BASE


@pytest.mark.parametrize(("settings", "message"), [
    (["extra=7"], r"--set extra: expected none, or a setting inside it \(low, high, label, limit\), found '7'"),
    (["extra.hihg=7"], r"--set extra\.hihg: no such setting; the nearest is extra\.high"),
    (["extra.low=20"], r"window\.low: expected at most high 10"),
    (["extra=none", "extra.low=2"], r"--set extra: cannot be none and have settings inside it"),
])
def test_settings_of_a_group_that_may_be_absent_are_checked(settings, message):
    with pytest.raises(OverrideError, match=message):
        apply_overrides(BASE, settings)


class Ending(enum.StrEnum):
    SOON = "soon"
    LATE = "late"


@dataclasses.dataclass(frozen=True)
class Choices:
    """What can be chosen."""

    ending: Ending = Ending.SOON
    # How it begins,
    # in words.
    start: Literal["slow", "fast"] = "slow"
    limits: tuple[
        float, ...
    ] = (1.0, 2.5)  # of both
    names: tuple[str, ...] = ("a, b", "", "[c")
    label: str = ' "x'


@pytest.mark.parametrize(("setting", "expected"), [
    ("ending=late", Choices(ending=Ending.LATE)),
    ("start=fast", Choices(start="fast")),
])
def test_a_choice_is_read_by_its_value(setting, expected):
    changed = apply_overrides(Choices(), [setting])
    assert changed == expected and type(changed.ending) is Ending


@pytest.mark.parametrize(("setting", "message"), [
    ("ending=never", "--set ending: expected soon or late, found 'never'."),
    ("start=LATE", "--set start: expected slow or fast, found 'LATE'."),
])
def test_a_choice_that_is_none_is_refused_with_those_that_there_are(setting, message):
    with pytest.raises(OverrideError) as error:
        apply_overrides(Choices(), [setting])
    assert message in str(error.value)


@dataclasses.dataclass(frozen=True)
class Open:
    kind: Any


def test_a_groups_fields_are_those_of_the_instance_whatever_is_annotated():
    assert apply_overrides(Open(Window()), ["kind.high=3"]) == Open(Window(high=3))
    assert apply_overrides(Open(Choices()), ["kind.ending=late"]) == Open(Choices(ending=Ending.LATE))
    with pytest.raises(OverrideError, match=r"--set kind: names a group; set one of kind\.low, "):
        apply_overrides(Open(Window()), ["kind=3"])


def test_groups_side_by_side_are_set_by_their_names_and_an_absent_one_comes_with_its_defaults():
    groups = together(window=Window(high=5), choices=Choices)
    assert (groups.window, groups.choices) == (Window(high=5), None)
    changed = apply_overrides(groups, ["window.low=2", "choices.start=fast"])
    assert (changed.window, changed.choices) == (Window(low=2, high=5), Choices(start="fast"))
    with pytest.raises(OverrideError, match=r"--set windows\.low: no such setting; the nearest is window\.low"):
        apply_overrides(groups, ["windows.low=2"])


def described(config):
    return [line.split()[0] for line in describe(config).splitlines() if line.startswith("  ") and line[2] != " "]


@pytest.mark.parametrize("config", [Settings("x", window=Window(label="")), Choices(), Experiment("x")])
def test_help_lists_every_setting_once(config):
    assert sorted(line.partition("=")[0] for line in described(config)) == sorted(field_names(config))


@pytest.mark.parametrize("config", [Settings("x y", patterns=()), Choices(), Experiment("x")])
def test_help_shows_values_as_they_are_typed(config):
    lines = [line.strip() for line in describe(config, width=10**6).splitlines()
             if line.startswith("  ") and not line.startswith("   ")]  # further right, a comment
    texts = [line.split("  ")[0] for line in lines if "=" in line]
    absent = {name for name, value in dataclasses.asdict(config).items() if value is None}
    texts = [text for text in texts if not text.startswith(tuple(f"{name}." for name in absent | {"model.lora"}))]
    other = dataclasses.replace(config, name="other") if hasattr(config, "name") else config
    assert len(texts) > 4 and apply_overrides(other, texts) == config


def test_help_says_what_stands_beside_or_above_a_field_and_what_a_group_is():
    text = describe(Choices(), width=60)
    assert "  ending=soon                       soon or late\n" in text
    assert f"slow or fast; How it\n{' ' * 36}begins, in words.\n" in text
    assert "  limits=1.0,2.5                    of both\n" in text
    text = describe(together(choices=Choices, window=Window()))
    assert "choices: What can be chosen (absent: choices=none)\n" in text
    assert "\nwindow:\n  window.low=0\n" in text


def test_a_command_takes_and_lists_its_settings():
    parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter)
    add_set_argument(parser, Choices())
    text = parser.format_help()
    assert "\n    limits=1.0,2.5                    of both\n" in text and "--set NAME=VALUE" in text
    assert parser.parse_args([]).set == []
    assert parser.parse_args(["--set", "ending=late", "--set=start=fast"]).set == ["ending=late", "start=fast"]
