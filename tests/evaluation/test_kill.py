"""A judge stage that is killed goes on where it was: no reply is lost, and none that was committed is asked again."""

import signal

import pytest

from tests import commands
from tests.evaluation.drawn import ITEMS, results
from tests.evaluation.test_endpoint import Server, serving


@pytest.mark.slow
def test_a_killed_judge_stage_goes_on_and_gives_the_same_result(drawn, tmp_path):
    server = Server()
    server.reply = lambda text: "score: 1.0" if len(text) % 2 else "score: 0.5"
    with serving(server) as url:
        def words(out):
            return ["--benchmark", "shapes", "--judge", f"endpoint:{url},m", "--images", drawn, "--out", out]

        out = tmp_path / "killed"
        chunks = out / "judge" / "chunks" / "00000-of-00001"
        command = commands.start("srum_jax.evaluate", *words(out), "--set", "endpoint.requests_per_minute=600")
        done = command.signal_when(lambda: len(list(chunks.glob("*.jsonl"))) >= 2, signal.SIGKILL)
        assert done.code == -signal.SIGKILL and not (out / "results.json").exists()
        committed = len(list(chunks.glob("*.jsonl"))) * 8
        before = sum(server.asked.values())
        assert commands.run("srum_jax.evaluate", *words(out)).code == 0
        assert sum(server.asked.values()) - before == len(ITEMS) - committed
        assert commands.run("srum_jax.evaluate", *words(tmp_path / "whole")).code == 0
    assert results(out) == results(tmp_path / "whole")
    assert (out / "replies.jsonl").read_bytes() == (tmp_path / "whole" / "replies.jsonl").read_bytes()
