"""The site: its pages, the reference that is made from the source, and links that lead nowhere."""

import argparse
import re
import tomllib

import pytest

from srum_jax import generate, train
from srum_jax.overrides import field_names
from srum_jax.training.experiment import Experiment
from tests.imports import ROOT
from tools import build_docs
from tools.build_docs import markdown
from tools.build_docs.__main__ import build, main
from tools.build_docs.broken_links import broken_links
from tools.build_docs.command_pages import command_modules, command_page, installed_names, parser_of
from tools.build_docs.settings_page import settings_page


def pages_of(node):
    return [node] if isinstance(node, str) else [page for item in node for value in item.values()
                                                 for page in pages_of(value)]


def test_every_page_of_docs_is_on_the_menu_once():
    menu = pages_of(tomllib.loads((ROOT / "docs" / "zensical.toml").read_text())["project"]["nav"])
    pages = {"index.md" if path.name == "README.md" else path.name for path in (ROOT / "docs").glob("*.md")}
    assert sorted(page for page in menu if "/" not in page) == sorted(pages)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("zensical")
    out = tmp_path_factory.mktemp("site") / "site"
    assert build(out) == 0, "a warning, or a broken link"
    return out


def test_the_site_builds_without_a_warning_or_a_broken_link(site):
    assert (site / "index.html").exists() and (site / "reference" / "settings.html").exists()


def test_a_link_out_of_docs_leads_to_a_page_with_the_file(site):
    assert 'href="source/tests/test_floors.py.html"' in (site / "architecture.html").read_text()
    assert "Dependencies run one way" in (site / "source" / "tests" / "test_floors.py.html").read_text()


def test_a_site_is_not_written_over(tmp_path, capsys):
    assert main(["--out", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_settings_that_the_page_about_the_official_code_names_exist():
    known = settings_page() + command_page("srum_jax.generate", None) + command_page("tools.make_rewards", None)
    known = known.replace("&#95;", "_")
    text = (ROOT / "docs" / "from_official.md").read_text().replace("ema.safetensors", "")
    named, group = [], ""
    for name in re.findall(r"`(?:--set )?((?:[a-z_]*\.)+[a-z_0-9]+)(?:=[^`]*)?`", text):
        group = name.rpartition(".")[0] or group
        named.append(name if not name.startswith(".") else f"{group}{name}")
    named = [name for name in named if name.partition(".")[0] in (*field_groups(), "sampler", "plan", "judge")]
    assert len(named) > 40 and not [name for name in named if name not in known]


def field_groups():
    return {name.partition(".")[0] for name in field_names(Experiment("")) if "." in name} | {"rows"}


def test_the_settings_page_has_every_setting_of_an_experiment():
    page = settings_page()
    shown = set(re.findall(r"<code>([\w.&#;]+)</code>", page))
    names = {markdown.code(name)[6:-7] for name in field_names(Experiment(""))}
    assert names <= shown
    assert {"rows.latents", "rows.images&#95;per&#95;row", "objective.beta", "objective.generation.beta"} <= shown


@pytest.mark.parametrize("command", [train, generate])
def test_a_page_has_every_option_of_its_parser(command):
    page, parser = command_page(command.__name__, None), parser_of(command.main)
    options = {option for action in parser._actions for option in action.option_strings} - {"-h", "--help"}
    assert options and all(f"<code>{option}" in page for option in options)


def test_stopping_a_command_at_its_parser_leaves_parsers_as_they_were():
    read = argparse.ArgumentParser.parse_args
    parser_of(generate.main)
    assert argparse.ArgumentParser.parse_args is read


def test_subcommands_are_on_the_page_of_their_command():
    page = command_page("tools.convert_weights", "srum-convert-weights")
    assert "## import" in page and "## export" in page and "`srum-convert-weights`" in page


def test_every_installed_command_has_a_page():
    modules = command_modules(ROOT)
    names = installed_names(ROOT / "setup.py", modules)
    assert sorted(names.values()) == sorted(re.findall(r'"(srum-[\w-]+) = ', (ROOT / "setup.py").read_text()))
    assert names["tools.make_rewards"] == "srum-rewards" and build_docs.__name__ in modules


def test_the_index_has_every_installed_command_and_its_module():
    index = (ROOT / "docs" / "README.md").read_text()
    names = installed_names(ROOT / "setup.py", command_modules(ROOT))
    assert not [pair for pair in names.items() if not all(f"`{word}`" in index for word in pair)]


@pytest.mark.parametrize("text, shown", [
    ("a|b", "a&#124;b"), ("see `x_y`", "see <code>x&#95;y</code>"), ("one ` alone", "one &#96; alone"),
    ("<b> & *c*", "&#60;b> &#38; &#42;c&#42;"), ("`a` and ` alone", "<code>a</code> and &#96; alone"),
])
def test_texts_of_the_source_are_shown_as_written(text, shown):
    assert markdown.plain(text) == shown


@pytest.mark.parametrize("link, broken", [
    ("b.html", False), ("b.html#here", False), ("#top", False), ("https://example.com/x", False), ("a.png", False),
    ("c.html", True), ("b.html#there", True), ("#bottom", True), ("b.png", True),
])
def test_links_and_anchors_that_lead_nowhere_are_found(tmp_path, link, broken):
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "b.html").write_text('<p id="here">')
    (tmp_path / "a.html").write_text(f'<h1 id="top"><a href="{link}">x</a>')
    assert broken_links(tmp_path) == ([f"a.html: {link} leads nowhere"] if broken else [])
