"""A server that answers with errors, delays and nonsense: every call gets its own reply, and the key stays hidden."""

import collections
import contextlib
import http.server
import json
import threading
import time

import numpy as np
import pytest

from srum_jax.errors import BadInput, Failure
from srum_jax.judges.endpoint import EndpointConfig, EndpointJudge
from srum_jax.rewards.judgement.calls import Call
from tests.evaluation.drawn import BENCHMARK, ITEMS, call, results

KEY = "sk-never-to-be-seen"
QUICK = EndpointConfig(concurrency=4, first_wait=0.01, patience=5.0, timeout=0.5)


class Server:
    """Does to a question, time after time, what `script` lists for it; then answers."""

    def __init__(self, script=lambda text: ()):
        self.script, self.asked, self.bodies, self.keys = script, collections.Counter(), [], set()
        self.times, self.lock, self.together, self.most = [], threading.Lock(), 0, 0

    def reply(self, text):
        return f"score: {len(text)}"

    def act(self, body, key):
        with self.lock:
            text = body["messages"][-1]["content"]
            text = text if isinstance(text, str) else text[-1]["text"]
            number = self.asked[text]
            self.asked[text] += 1
            self.bodies.append(body)
            self.keys.add(key)
            self.times.append(time.monotonic())
            self.together += 1
            self.most = max(self.most, self.together)
        try:
            trouble = list(self.script(text))
            return trouble[number] if number < len(trouble) else self.reply(text)
        finally:
            time.sleep(0.005)
            with self.lock:
                self.together -= 1


@contextlib.contextmanager
def serving(server):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found = server.act(body, self.headers.get("Authorization"))
            if callable(found):
                found = found()
            if isinstance(found, tuple):
                code, headers = found
                data = f"no: {self.headers.get('Authorization')}".encode()
            elif isinstance(found, bytes):
                code, headers, data = 200, {}, found
            elif found is None:
                self.connection.close()
                return
            else:
                code, headers = 200, {}
                data = json.dumps({"choices": [{"message": {"content": found}, "finish_reason": "stop"}],
                                   "usage": {"completion_tokens": 3}}).encode()
            with contextlib.suppress(OSError):
                self.send_response(code)
                for name, value in ({"Content-Length": str(len(data))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, *args):
            """Not to the terminal."""

    class Quiet(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request, address):
            """Connections that are closed on purpose."""

    with Quiet(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_port}/v1"
        finally:
            running.shutdown()
            thread.join()


def question(text, history=()):
    return np.zeros((4, 4, 3), np.uint8), Call("score", 1, text, 9, False, None, 0, "", f"{text}/0", history)


def slow():
    time.sleep(1.0)
    return "score: too late"


TROUBLES = {
    "busy": [(429, {"Retry-After": "0"}), (429, {})], "down": [(503, {}), (500, {})], "closed": [None],
    "nonsense": [b"<html>", b"{}", b'{"choices": []}', b'{"choices": [{"message": {"content": null}}]}'],
    "slow": [slow], "fine": [],
}


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def test_every_call_gets_its_own_reply_whatever_happens_on_the_way():
    server = Server(lambda text: TROUBLES[text.split()[0]])
    texts = [f"{name} {'x' * number}" for number, name in enumerate([*TROUBLES, *TROUBLES])]
    with serving(server) as url:
        replies = EndpointJudge(url, "judge-1", QUICK).answer([question(text) for text in texts])
    assert [reply.text for reply in replies] == [f"score: {len(text)}" for text in texts]
    assert {text: server.asked[text] for text in texts} == {
        text: 1 + len(TROUBLES[text.split()[0]]) for text in texts}
    assert 1 < server.most <= QUICK.concurrency and server.keys == {f"Bearer {KEY}"}


def test_the_conversation_the_picture_and_greedy_decoding_are_sent():
    server = Server()
    with serving(server) as url:
        EndpointJudge(f"{url}/", "judge-1", QUICK).answer([question("and now", (("what is it", "a cup"),))])
    (body,) = server.bodies
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("judge-1", 9, 0.0)
    first, second, third = body["messages"]
    assert first["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")
    assert first["content"][1] == {"type": "text", "text": "what is it"}
    assert second == {"role": "assistant", "content": "a cup"} and third == {"role": "user", "content": "and now"}


def test_a_server_that_stays_down_ends_in_a_failure_in_time_without_the_key():
    server = Server(lambda text: [(503, {})] * 1000)
    with serving(server) as url, pytest.raises(Failure, match=r"no answer to call 'score' of a/0 in 0.3 s") as caught:
        EndpointJudge(url, "m", EndpointConfig(first_wait=0.01, patience=0.3)).answer([question("a"), question("b")])
    assert "HTTP 503" in str(caught.value) and KEY not in str(caught.value)
    assert 3 <= server.asked["a"] <= 30


@pytest.mark.parametrize("code", [400, 401, 404, 307])
def test_what_would_be_refused_again_is_not_asked_again_and_the_key_is_not_told(code):
    server = Server(lambda text: [(code, {"Location": "http://127.0.0.1:1/"})] * 9)
    with serving(server) as url, pytest.raises(BadInput, match=f"HTTP {code}") as caught:
        EndpointJudge(url, "m", QUICK).answer([question("a")])
    assert server.asked["a"] == 1 and KEY not in str(caught.value)


def test_no_server_is_a_failure_that_says_so():
    with pytest.raises(Failure, match=r"127\.0\.0\.1 gave no answer"):
        config = EndpointConfig(first_wait=0.01, patience=0.05)
        EndpointJudge("http://127.0.0.1:9/v1", "m", config).answer([question("a")])


def test_requests_start_no_faster_than_the_rate():
    server = Server()
    with serving(server) as url:
        config = EndpointConfig(concurrency=4, requests_per_minute=1200)
        EndpointJudge(url, "m", config).answer([question(str(number)) for number in range(6)])
    times = sorted(server.times)
    assert times[-1] - times[0] >= 5 * 0.05 * 0.8


@pytest.mark.parametrize("url", ["ftp://host/v1", "host/v1", "https://user:secret@host/v1", "https://host/v1?key=secret"])
def test_an_address_with_a_key_or_without_a_scheme_is_refused_without_being_repeated(url):
    with pytest.raises(BadInput) as caught:
        EndpointJudge(url, "m")
    assert "secret" not in str(caught.value)


def test_a_run_that_was_cut_off_goes_on_and_nothing_is_asked_twice(drawn, tmp_path, capsys):
    server, out = Server(), tmp_path / "out"
    server.reply = lambda text: "score: 1.0"
    failing = [True]
    broken = f"does the picture fit: {ITEMS[20].prompt}"
    server.script = lambda text: [(400, {})] * 9 if failing[0] and text == broken else []
    with serving(server) as url:
        judge = ["--judge", f"endpoint:{url},judge-1", "--judge-revision", "r1", "--images", drawn]
        assert call(out, *judge) == 2
        assert KEY not in capsys.readouterr().err and not (out / "results.json").exists()
        failing[0] = False
        assert call(out, *judge) == 0
    assert set(server.asked) == {f"does the picture fit: {item.prompt}" for item in ITEMS}
    done_before = {f"does the picture fit: {item.prompt}" for item in ITEMS[:16]}
    assert {server.asked[text] for text in done_before} == {1}
    found = results(out)
    assert found["scores"]["overall"] == 1.0 and found["judge"] == {"id": "judge-1", "revision": "r1"}
    assert sum(1 for _ in (out / "replies.jsonl").open()) == len(ITEMS) == 64
    assert all(KEY.encode() not in path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert BENCHMARK.name == found["benchmark"]
