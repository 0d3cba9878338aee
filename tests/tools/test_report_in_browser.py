"""The HTML page of a run in headless Chromium: what is seen, clicked and typed."""

import numpy as np
import pytest

from srum_jax.generation.prompts import Prompt
from tests.tools.chromium import browser, executable
from tests.tools.fakes import generated, scores_for
from tests.tools.report_page import HOSTILE, call, change, decode, judged, report


@pytest.fixture
def chromium(tmp_path):
    if executable() is None:
        pytest.skip("no browser: apt-get install chromium")
    with browser(tmp_path / "profile") as page:
        yield page


CARDS = "document.querySelectorAll('.card').length"


@pytest.mark.slow
def test_the_page_works_in_a_browser(chromium, tmp_path):
    names = [f"a red circle left of square {i}" for i in range(68)] + ["two rings", HOSTILE]
    prompts = [Prompt(i, "set", str(i), text, "color" if i % 2 else "shape") for i, text in enumerate(names)]
    out = generated(tmp_path / "run", prompts)
    judged(out, scores_for(tmp_path / "s.jsonl", prompts))
    change(out, "judge", "set-69-c00", calls=[call("global", 1, HOSTILE) | {"template_sha256": ""}],
           questions=[{"kind": "object", "object": "ring", "text": HOSTILE, "yes": 0.25}])
    change(out, "judge", "set-68-c00", regions=[])
    report(out, tmp_path / "report")
    address = f"file://{tmp_path / 'report' / 'index.html'}"
    chromium.open(address)
    chromium.expect(CARDS, 60)
    chromium.expect("document.querySelector('#count').textContent", "70 candidates")
    assert "Nothing has been exported" in chromium.value("document.querySelector('#absent').textContent")
    chromium.wait("[...document.querySelectorAll('.card img')].some((image) => image.naturalWidth === 48)")
    assert chromium.value("document.querySelectorAll('.card img').length") < 60  # only those in view
    chromium.press("ArrowRight")
    chromium.expect(CARDS, 10)
    chromium.wait("location.hash.includes('page=2')")

    # Filters, through the controls as through the address.
    chromium.value("(() => { const q = document.querySelector('[name=q]'); q.value = 'RINGS two'; "
                   "q.dispatchEvent(new Event('input', {bubbles: true})); })()")
    chromium.expect(CARDS, 1)
    chromium.wait("location.hash.includes('q=RINGS')")
    for state, count in (("category=color", 35), ("low=0.5", 69 - 9), ("low=0.51", 0), ("tag=flag:clamped (global)", 2),
                         ("by=layout&high=0.4&sort=layout-up", 2), ("verdict=not verified&page=2", 9),
                         ("state=judged", 60)):
        chromium.open(f"{address}#{state}")
        chromium.expect(CARDS, count)

    # A click opens the detail view; keys step through it and close it.
    chromium.open(f"{address}#sort=layout-up")
    chromium.expect("document.querySelector('.card').dataset.id", "set-68-c00")  # no arrangement: at most 0.4
    chromium.open(f"{address}#sort=layout-down")
    chromium.click(".card[data-id='set-3-c00']")
    chromium.wait("document.querySelector('#detail').open")
    chromium.expect("document.querySelector('#detail .prompt').textContent", names[3])
    chromium.expect("document.querySelectorAll('#detail .region').length", 1)
    chromium.press("ArrowRight")
    chromium.expect("document.querySelector('#detail .prompt').textContent", names[4])
    for show in ("paper", "official"):
        chromium.value(f"document.querySelector('#detail input[value={show}]').click()")
        chromium.expect("[document.querySelector('#detail canvas').width, "
                        "document.querySelector('#detail canvas').height]", [6, 5])
    chromium.press("Escape")
    chromium.wait("!document.querySelector('#detail').open")
    chromium.wait("!location.hash.includes('open=')")

    # Hostile texts are shown as they are, and do nothing.
    chromium.open(f"{address}#open=set-69-c00")
    chromium.expect("document.querySelector('#detail .prompt').textContent", HOSTILE)
    assert HOSTILE in chromium.value("[...document.querySelectorAll('#detail pre')].map(e => e.textContent)")
    assert chromium.value("[...document.querySelectorAll('#detail .questions td')].map(e => e.textContent)") == [
        "0.250", HOSTILE, "object", "ring", "picture"]
    assert chromium.value("document.querySelectorAll('[onerror], img[src=x]').length") == 0
    assert chromium.complaints == []


@pytest.mark.slow
def test_the_browser_draws_the_map_that_was_encoded(chromium, tmp_path):
    run = judged(generated(tmp_path / "run"), scores_for(tmp_path / "s.jsonl"))
    page = report(run, tmp_path / "report")
    chromium.open(f"file://{tmp_path / 'report' / 'index.html'}#open=set-0-c00&show=paper")
    expected = decode(page.more(0)["maps"]["paper"])
    alpha = chromium.value("(() => { const c = document.querySelector('#detail canvas'); "
                           "return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
                           ".filter((_, i) => i % 4 === 3); })()")
    np.testing.assert_allclose(np.reshape(alpha, (5, 6)), np.rint(255 * (0.28 + 0.5 * np.abs(expected))), atol=1)
    assert chromium.complaints == []
