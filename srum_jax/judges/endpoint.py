"""A judge behind an OpenAI-compatible server (`POST BASE/chat/completions`): vLLM, SGLang, a provider.

Requests run side by side, no faster than a rate. An error that may pass (429, 5xx, a connection that breaks, a reply
that is none) is met by waiting: 1 s, then twice as long each time, with jitter, or what the server's Retry-After says.
After ten minutes of it the command ends with exit code 1, and what was committed before stays. Errors that would come
again (400, 401, 404) end it at once. The key is read from an environment variable, and is in no message and no file.
"""

import base64
import concurrent.futures
import dataclasses
import email.utils
import http.client
import io
import json
import os
import random
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from srum_jax.errors import BadInput, Failure
from srum_jax.rewards.judgement.calls import Call, Reply

_PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_MOST_BYTES = 16 * 2**20  # of an answer
_LONGEST_WAIT = 60.0  # seconds between two attempts


@dataclasses.dataclass(frozen=True)
class EndpointConfig:
    """How a server is asked."""

    concurrency: int = 8  # requests side by side
    requests_per_minute: float = 0.0  # at most; 0: as fast as the server answers
    timeout: float = 180.0  # seconds for one answer
    patience: float = 600.0  # seconds for one call, waiting included, before the command gives up
    first_wait: float = 1.0  # seconds after the first error; doubles from there
    key_variable: str = "OPENAI_API_KEY"  # of the environment; absent: no key is sent

    def __post_init__(self):
        if isinstance(self.concurrency, bool) or not 1 <= self.concurrency <= 1024:
            raise ValueError(f"concurrency: expected a number from 1 to 1024, found {self.concurrency!r}.")
        for name in ("timeout", "patience", "first_wait"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number of seconds, found {getattr(self, name)!r}.")
        if not self.requests_per_minute >= 0:
            raise ValueError(f"requests_per_minute: expected no negative number, found {self.requests_per_minute!r}.")


class EndpointJudge:
    """Asks a server; a call's reply does not depend on the order in which answers come."""

    def __init__(self, url: str, model: str, config: EndpointConfig = EndpointConfig()):
        """Checks the address; connects to nothing.

        Args:
          url: the base, for instance "http://localhost:8000/v1".
          model: as the server calls it.
          config: how it is asked.

        Raises:
          BadInput: no http or https address, or it holds a key.
        """
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadInput(f"--judge endpoint: expected http://HOST/... or https://HOST/..., found "
                           f"{parts.scheme or 'no scheme'}.")
        if parts.username or parts.password or parts.query:
            raise BadInput("--judge endpoint: expected a plain address; a key belongs into the environment variable "
                           f"{config.key_variable}.")
        self._url, self._model, self._config = f"{url.rstrip('/')}/chat/completions", model, config
        self._place = parts.hostname
        self._pace = _Pace(config.requests_per_minute)
        self._stopped = threading.Event()

    def answer(self, calls: Sequence[tuple[np.ndarray, Call]]) -> list[Reply]:
        """See `Judge`.

        Raises:
          BadInput: the server refuses a request for good.
          Failure: it does not answer in time.
        """
        self._stopped.clear()
        with concurrent.futures.ThreadPoolExecutor(self._config.concurrency) as pool:
            futures = [pool.submit(self._answer, pixels, call) for pixels, call in calls]
            try:
                return [future.result() for future in futures]
            except BaseException:  # the others are not waited for longer than their present attempt
                self._stopped.set()
                for future in futures:
                    future.cancel()
                raise

    def _answer(self, pixels: np.ndarray, call: Call) -> Reply:
        body = json.dumps(self._body(pixels, call)).encode()
        deadline, wait = time.monotonic() + self._config.patience, self._config.first_wait
        while True:
            self._pace.wait()
            try:
                return _read(self._post(body))
            except _PassingError as error:
                pause = min(wait, _LONGEST_WAIT) * random.uniform(0.5, 1.0) if error.after is None else error.after
                if time.monotonic() + pause > deadline:
                    raise Failure(f"--judge endpoint: {self._place} gave no answer to call {call.kind!r} of "
                                  f"{call.subject_id or 'an image'} in {self._config.patience:g} s (last: {error}); "
                                  "the same command goes on from here.") from None
            if self._stopped.wait(pause):
                raise Failure("--judge endpoint: stopped, as another request has failed.")
            wait *= 2

    def _body(self, pixels: np.ndarray, call: Call) -> dict[str, Any]:
        encoded = io.BytesIO()
        Image.fromarray(pixels).save(encoded, format="PNG")
        picture = "data:image/png;base64," + base64.b64encode(encoded.getvalue()).decode()
        questions = [question for question, _ in call.history] + [call.text]
        messages: list[dict[str, Any]] = []
        for number, question in enumerate(questions):
            content: Any = question
            if number == 0:
                content = [{"type": "image_url", "image_url": {"url": picture}}, {"type": "text", "text": question}]
            messages.append({"role": "user", "content": content})
            if number < len(call.history):
                messages.append({"role": "assistant", "content": call.history[number][1]})
        return {"model": self._model, "messages": messages, "max_tokens": call.max_new_tokens,
                "temperature": 0.0 if call.temperature is None else call.temperature,
                **({} if call.temperature is None else {"seed": call.seed & 0x7FFFFFFF})}

    def _post(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json"}
        key = os.environ.get(self._config.key_variable)
        if key:
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(self._url, body, headers)
        try:
            with _OPENER.open(request, timeout=self._config.timeout) as answer:
                return answer.read(_MOST_BYTES)
        except urllib.error.HTTPError as error:
            if error.code in _PASSING:
                raise _PassingError(f"HTTP {error.code}", _retry_after(error.headers.get("Retry-After"))) from None
            said = error.read(2000).decode(errors="replace").strip().replace("\n", " ")
            said = said.replace(key, "...") if key else said
            raise BadInput(f"--judge endpoint: {self._place} refuses the request: HTTP {error.code} {said[:200]}"
                           ) from None
        except (urllib.error.URLError, OSError, ValueError, http.client.HTTPException) as error:
            raise _PassingError(str(getattr(error, "reason", None) or error) or type(error).__name__) from None


class _PassingError(Exception):
    """What another attempt may not meet again; `after` seconds, where the server says when."""

    def __init__(self, what: str, after: float | None = None):
        super().__init__(what)
        self.after = after


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A key is never carried to another address."""

    def redirect_request(self, *args: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


class _Pace:
    """Lets one request start after the other, no faster than a rate."""

    def __init__(self, per_minute: float):
        self._seconds = 60.0 / per_minute if per_minute else 0.0
        self._next, self._lock = 0.0, threading.Lock()

    def wait(self) -> None:
        with self._lock:
            now = time.monotonic()
            start = max(now, self._next)
            self._next = start + self._seconds
        time.sleep(start - now)


def _read(data: bytes) -> Reply:
    """The reply of an answer; _PassingError if it holds none."""
    try:
        answer = json.loads(data)
        choice = answer["choices"][0]
        text = choice["message"]["content"]
        if not isinstance(text, str):
            raise TypeError(f"content is {type(text).__name__}")
        tokens = (answer.get("usage") or {}).get("completion_tokens", 0)
        return Reply(text, tokens if isinstance(tokens, int) else 0, choice.get("finish_reason") != "length")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise _PassingError(f"an answer that is none ({type(error).__name__})") from None


def _retry_after(text: str | None) -> float | None:
    """Seconds that the header asks for, as a number or a date; None without one."""
    if text is None:
        return None
    try:
        return min(max(float(text), 0.0), _LONGEST_WAIT)
    except ValueError:
        pass
    try:
        return min(max(email.utils.parsedate_to_datetime(text).timestamp() - time.time(), 0.0), _LONGEST_WAIT)
    except (ValueError, TypeError):
        return None
