"""The whole page in headless Chromium, as the command serves it, with the shipped model."""

import contextlib
import importlib.util
import json
import re
import signal
import socket
import time

import numpy as np
import pytest
from PIL import Image

from tests import commands
from tests.tools.chromium import browser, executable

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(executable() is None, reason="no browser: apt-get install chromium"),
    pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="needs srum_jax[demo]"),
]

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script> ${alert(3)} {{value}}"
SECONDS = 300  # to compile on a busy machine
DESKTOP, PHONE = (1280, 900), (390, 844)


@pytest.fixture(scope="module")
def address():
    """Of a page that draws in few steps, two at most."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    page = commands.start_afresh(
        "srum_jax.demo", "--port", port, "--num-candidates", "2", "--max-upload-mb", "0.1", "--provider", "components",
        "--set", "sampler.num_timesteps=6", "--set", "plan.max_tokens=16")
    try:
        page.wait_for(lambda: "compiled" in page.out)
        yield f"http://127.0.0.1:{port}"
    finally:
        page.send_signal(signal.SIGTERM)
        page.finish(within=60)


@contextlib.contextmanager
def visitor(folder, address, size=DESKTOP):
    with browser(folder, *size) as page:
        page.call("Emulation.setDeviceMetricsOverride", width=size[0], height=size[1], deviceScaleFactor=1,
                  mobile=size == PHONE)
        page.call("Page.navigate", url=address)
        page.wait("!!document.querySelector('#draw')")
        yield page


# The page puts its parts in place one after the other: each is waited for before it is used.


def press(page, selector):
    found = f"document.querySelector({json.dumps(selector)})"
    page.wait(f"!!{found}")
    page.value(f"{found}.click()")


def press_labelled(page, kind, words):
    found = f"[...document.querySelectorAll('{kind}')].find(e => e.innerText.includes({json.dumps(words)}))"
    page.wait(f"!!{found}")
    page.value(f"{found}.click()")


def open_tab(page, name):
    press_labelled(page, "[role=tab]", name)


def fill(page, selector, text):
    page.wait(f"!!document.querySelector('{selector} textarea, {selector} input')")
    page.value(f"(() => {{ const e = document.querySelector('{selector} textarea, {selector} input'); "
               f"e.value = {json.dumps(text)}; e.dispatchEvent(new Event('input', {{bubbles: true}})); }})()")
    time.sleep(0.3)  # the page takes over what was typed when it gets to it


def text(page, selector):
    return page.value(f"document.querySelector('{selector}').innerText")


def until(page, selector, words):
    page.wait(f"!!document.querySelector('{selector}')?.innerText.includes({json.dumps(words)})", SECONDS)


def pictures(page, selector):
    """How many pictures an element shows; waits until one is there. They are loaded when they come into view."""
    page.wait(f"!!document.querySelector('{selector}')")
    page.value(f"document.querySelector('{selector}').scrollIntoView()")
    shown = f"[...document.querySelectorAll('{selector} img')].filter(e => e.naturalWidth > 0).length"
    page.wait(f"{shown} > 0", SECONDS)
    return page.value(shown)


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_stranger_draws_judges_and_weighs_a_picture(address, tmp_path, size):
    with visitor(tmp_path / "profile", address, size) as page:
        press(page, "#draw")
        until(page, "#draw-status", "2 drawn in")
        assert pictures(page, "#candidates") == 2
        press(page, "#judge")
        until(page, "#judge-status", "Judged in")
        assert page.value("document.querySelectorAll('#verdicts .region').length") >= 1
        for variant in ("paper", "official"):
            assert "alpha" in text(page, f"#numbers-{variant}")
            assert pictures(page, f"#map-{variant}") == pictures(page, f"#weight-{variant}") == 1
        assert page.value("document.documentElement.scrollWidth <= innerWidth && innerWidth") == size[0]
        assert page.complaints == []


def test_steps_are_told_and_plans_are_seen_while_they_come_about(address, tmp_path):
    with visitor(tmp_path / "profile", address) as page:
        page.value("""(() => { window.seen = []; new MutationObserver(() => window.seen.push(
            ['#draw-status', '#plans'].map(e => document.querySelector(e)?.innerText ?? ''))
            ).observe(document.body, {subtree: true, childList: true, characterData: true}); })()""")
        press_labelled(page, "label", "Write a plan first")
        press(page, "#draw")
        until(page, "#draw-status", "2 drawn in")
        told, plans = zip(*page.value("window.seen"), strict=True)
        assert any(re.match("step [1-5] of 5", text) for text in told)
        assert any(text.rstrip().endswith("…") and "Plan of picture 2" in text for text in plans)
        assert "Plan of picture 2" in text(page, "#plans") and not text(page, "#plans").rstrip().endswith("…")


def test_what_is_wrong_is_told_in_a_sentence_and_the_page_goes_on(address, tmp_path):
    with visitor(tmp_path / "profile", address) as page:
        press(page, "#judge")
        until(page, "#judge-status", "There is no picture yet")
        fill(page, "#draw-prompt", "  ")
        press(page, "#draw")
        until(page, "#draw-status", "prompt is empty")
        fill(page, "#draw-prompt", "a red circle " * 300)
        press(page, "#draw")
        until(page, "#draw-status", "tokens")
        fill(page, "#draw-prompt", "a red circle")
        press(page, "#draw")
        until(page, "#draw-status", "2 drawn in")


def test_hostile_texts_are_shown_and_do_nothing(address, tmp_path):
    with visitor(tmp_path / "profile", address) as page:
        press(page, "#draw")
        until(page, "#draw-status", "2 drawn in")
        open_tab(page, "Ask")
        fill(page, "#question", HOSTILE)
        press(page, "#ask")
        until(page, "#ask-status", "Answered in")
        open_tab(page, "Draw and judge")
        fill(page, "#judged-by", HOSTILE)
        press(page, "#judge")
        until(page, "#judge-status", "Judged in")
        page.value("document.querySelectorAll('button.label-wrap').forEach(e => e.click())")
        until(page, "#asked", HOSTILE)
        assert page.value("document.querySelectorAll('[onerror], img[src=x]').length") == 0
        assert page.complaints == []


def test_a_picture_of_the_visitor_is_judged_and_one_that_is_none_refused(address, tmp_path):
    pixels = np.full((64, 96, 3), 230, np.uint8)
    pixels[16:48, 16:48] = 200, 30, 30
    Image.fromarray(pixels).save(tmp_path / "mine.png")
    (tmp_path / "none.png").write_bytes(b"<svg></svg>")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (300, 300, 3), np.uint8)).save(tmp_path / "large.png")
    with visitor(tmp_path / "profile", address) as page:

        def take(name):
            inputs = "#upload-judged input[type=file], #upload-judged + input[type=file], input[type=file]"
            page.wait(f"document.querySelector({json.dumps(inputs)}) !== null")
            root = page.call("DOM.getDocument")["root"]["nodeId"]
            node = page.call("DOM.querySelector", nodeId=root, selector=inputs)["nodeId"]
            page.call("DOM.setFileInputFiles", nodeId=node, files=[str(tmp_path / name)])

        take("none.png")
        until(page, "#judge-status", "picture: undecodable image")
        take("mine.png")
        until(page, "#judge-status", "96 x 64 pixels")
        assert pictures(page, "#regions") == 1
        fill(page, "#judged-by", "a red square")
        press(page, "#judge")
        until(page, "#judge-status", "Judged in")
        take("large.png")
        page.wait("/maximum|exceeds|at most/i.test(document.body.innerText)", SECONDS)


def test_two_visitors_are_served_one_after_the_other(address, tmp_path):
    with visitor(tmp_path / "a", address) as one, visitor(tmp_path / "b", address) as two:
        press(one, "#draw")
        press(two, "#draw")
        for page in (one, two):
            until(page, "#draw-status", "2 drawn in")
            assert pictures(page, "#candidates") == 2
