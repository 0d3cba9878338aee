"""The page of an evaluation: numbers, differences, filters and pictures, as a parser and as a browser see it."""

import json
import shutil

import pytest
from PIL import Image

from tests.evaluation.conftest import drawn
from tests.evaluation.drawn import BENCHMARK, ITEMS, call
from tests.tools.chromium import browser, executable
from tests.tools.report_page import HOSTILE, Page
from tools.evaluation_report.__main__ import main

__all__ = ["drawn"]


@pytest.fixture
def two(drawn, tmp_path):
    """Two evaluations and their pictures; the second lacks what the first has in the first category."""
    worse = shutil.copytree(drawn, tmp_path / "worse")
    for item in ITEMS[:8]:
        Image.new("RGB", (48, 48), "white").save(worse / BENCHMARK.image(item, 0))
    for name, folder in (("a", drawn), ("b", worse)):
        assert call(tmp_path / name, "--images", folder, "--model-id", HOSTILE if name == "a" else "base") == 0
    return tmp_path / "a", "--against", tmp_path / "b", "--images", drawn, worse


def report(out, *arguments):
    assert main([*map(str, arguments), "--out", str(out)]) == 0
    return Page(out / "index.html")


def test_two_models_stand_side_by_side_with_their_differences(two, tmp_path):
    page = report(tmp_path / "report", *two)
    assert page.summary["models"] == [HOSTILE, "base"] and page.summary["judge"] == "oracle"
    numbers = {found["name"]: found for found in page.summary["numbers"]}
    assert [mean["mean"] for mean in numbers["color"]["means"]] == [0.5, 0.0]
    assert numbers["color"]["difference"]["difference"] == 0.5 and numbers["complex"]["difference"]["high"] == 0
    assert numbers["overall"]["difference"]["difference"] == pytest.approx(1 / 16)
    assert [row["change"] for row in page.rows[:3]] == ["gain", "same", "gain"]
    assert all(url.startswith("data:image/webp;base64,") for pictures in page.more(0)["pictures"] for url in pictures)
    assert page.more(0)["replies"] == [["score: 1.0"], ["score: -1.0"]]


def test_what_is_missing_is_said_and_has_no_number(drawn, tmp_path):
    (drawn / BENCHMARK.image(ITEMS[3], 0)).unlink()
    assert call(tmp_path / "a", "--images", drawn) == 3
    page = report(tmp_path / "report", tmp_path / "a", "--images", drawn)
    assert "1 items are missing" in page.summary["absent"][0]
    assert {found["name"]: found["means"] for found in page.summary["numbers"]}["overall"] == [None]
    assert page.rows[3]["failed"] == ["missing"] and page.more(3)["pictures"] == [[None]]


def test_a_folder_without_results_is_refused(tmp_path, capsys):
    assert main([str(tmp_path), "--out", str(tmp_path / "report")]) == 2
    assert "evaluation.json" in capsys.readouterr().err


@pytest.mark.slow
def test_filters_and_pictures_work_in_a_browser(two, tmp_path):
    if executable() is None:
        pytest.skip("no browser: apt-get install chromium")
    report(tmp_path / "report", *two)
    with browser(tmp_path / "profile") as page:
        page.open(f"file://{tmp_path / 'report' / 'index.html'}")
        page.expect("document.querySelector('#count').textContent", "64 of 64 items")
        page.expect("document.querySelectorAll('.number-row').length", 10)
        page.wait("[...document.querySelectorAll('.pair img')].some((image) => image.naturalWidth === 48)")

        def choose(name, value, count):
            page.value(f"(() => {{ const c = document.querySelector('[name={name}]'); c.value = {json.dumps(value)}; "
                       "c.dispatchEvent(new Event('input', {bubbles: true})); })()")
            page.expect("document.querySelector('#count').textContent", f"{count} of 64 items")

        for name, value, count in (("change", "gain", 4), ("change", "loss", 0), ("change", "", 64),
                                   ("category", "color", 8), ("category", "", 64), ("q", "-1.0", 36)):
            choose(name, value, count)
        assert page.value("document.querySelectorAll('[onerror], img[src=x]').length") == 0
        assert HOSTILE in page.value("document.querySelector('#about').textContent")
        assert page.complaints == []
