"""Work for the page tells how far it is, hands on what it raises, and is done for one visitor at a time."""

import threading

import jax
import numpy as np
import pytest

from srum_jax.demo import watched as module
from srum_jax.demo.watched import watched
from srum_jax.errors import BadInput


def test_what_work_tells_comes_in_order_and_the_result_last():
    picture = np.zeros((1, 1, 3), np.uint8)

    def work(tell):
        tell("first")
        tell("second", [picture])
        tell("third", plans=["a plan"])
        return 42

    updates = list(watched(work))
    assert [update.text for update in updates] == ["first", "second", "third", "done"]
    assert updates[1].pictures[0] is picture and updates[-1].result == 42
    assert [update.plans for update in updates] == [(), (), ["a plan"], ()]
    assert 0 <= updates[0].seconds <= updates[-1].seconds


def test_what_work_raises_is_raised():
    def work(tell):
        raise BadInput("no")

    with pytest.raises(BadInput, match="no"):
        list(watched(work))


def test_a_second_visitor_waits_until_the_first_is_done():
    begun, go_on, order = threading.Event(), threading.Event(), []

    def first(tell):
        begun.set()
        go_on.wait(30)
        order.append("first")

    one = watched(first)
    threading.Thread(target=lambda: list(one)).start()
    assert begun.wait(30)
    two = watched(lambda tell: order.append("second"))
    assert next(two).text == "waiting for the work of others"
    go_on.set()
    list(two)
    assert order == ["first", "second"]


def test_a_visitor_who_leaves_does_not_stop_his_work_and_the_next_waits_for_it():
    begun, go_on, order = threading.Event(), threading.Event(), []

    def first(tell):
        begun.set()
        go_on.wait(30)
        order.append("first")

    one = watched(first)
    next(one)
    assert begun.wait(30)
    one.close()
    go_on.set()
    list(watched(lambda tell: order.append("second")))
    assert order == ["first", "second"]


def test_compiling_is_told_while_it_lasts(monkeypatch):
    monkeypatch.setattr(module, "_EVERY", 0.0)
    seen = []

    def function(x):
        seen.append(module._COMPILING.now)  # traced: not yet
        return x + 1

    module._COMPILING._hear(module._LOWERED, 0.1)
    assert module._COMPILING.now
    module._COMPILING._hear(module._COMPILED, 0.1)
    assert not module._COMPILING.now
    jax.jit(function).lower(np.float32(1)).compile()
    assert seen == [False] and not module._COMPILING.now
