"""A Cloud Storage of a few lines that answers as a test wants it to: refusals, outages, answers that break off."""

import asyncio
import contextlib
import http.server
import json
import threading
import types
import urllib.parse
from collections.abc import Callable

import pytest
from etils import epath
from etils.epath import backend

from tests import gcs  # sets what gcsfs reads when it is imported

assert gcs

ROOT = epath.Path("gs://faulty/run")
# What the service says to somebody without credentials, and to somebody without the role.
REFUSALS = {401: "Anonymous caller does not have storage.objects.get access to the Google Cloud Storage object.",
            403: "srum@x.iam.gserviceaccount.com does not have storage.objects.get access."}


class Service:
    """Objects by their name in the bucket, and the code that every request gets while it is not None."""

    def __init__(self):
        self.objects: dict[str, bytes] = {}
        self.code: int | None = None
        self.cut: Callable[[bytes], bytes] = lambda data: data  # what arrives of an object
        self.num_requests = 0


@pytest.fixture
def faulty(monkeypatch):
    """The service; its bucket is at `gs://faulty`. gcsfs repeats requests without waiting."""
    gcsfs = pytest.importorskip("gcsfs", reason="needs srum_jax[gcs]")
    service = Service()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(service))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    files = gcsfs.GCSFileSystem(endpoint_url=f"http://127.0.0.1:{server.server_port}", token="anon", project="x",
                                skip_instance_cache=True)
    monkeypatch.setattr(backend._FileSystemSpecBackend, "fs", lambda self, path: files)
    wait = asyncio.sleep
    monkeypatch.setattr(gcsfs.retry, "asyncio", types.SimpleNamespace(sleep=lambda _: wait(0)))
    yield service
    server.shutdown()
    server.server_close()
    thread.join()


def _handler(service: Service) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            url = urllib.parse.urlsplit(self.path)
            query, (_, _, name) = urllib.parse.parse_qs(url.query), url.path.partition("/o/")
            name = urllib.parse.unquote(name)
            if self._fails():
                return
            if not name:
                prefix = query.get("prefix", [""])[0]
                self._json({"items": [_about(name, data) for name, data in service.objects.items()
                                      if name.startswith(prefix)]})
            elif name not in service.objects:
                self._answer(404, b"{}")
            elif url.path.startswith("/download/"):
                data = service.objects[name]
                if "Range" in self.headers:
                    first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
                    data = data[int(first) : int(last or len(data)) + 1]
                self._answer(200, service.cut(data))
            else:
                self._json(_about(name, service.objects[name]))

        def do_POST(self):
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self._fails():
                return
            # The name of an object that is uploaded in one piece stands in front of its bytes, as JSON.
            about, _, rest = content.partition(b"\n\n")[2].partition(b"\n--")
            name = json.loads(about)["name"] if "uploadType=multipart" in self.path else None
            if "ifGenerationMatch=0" in self.path and name in service.objects:
                self._answer(412, b"{}")
                return
            if name is not None:
                service.objects[name] = rest.partition(b"\n\n")[2].rpartition(b"\n--")[0]
            self._json({})

        do_PUT = do_POST

        def do_DELETE(self):
            if not self._fails():
                service.objects.pop(urllib.parse.unquote(self.path.partition("/o/")[2].partition("?")[0]), None)
                self._answer(204, b"")

        def _fails(self) -> bool:
            service.num_requests += 1
            if service.code is not None:
                message = REFUSALS.get(service.code, "no backend")
                self._answer(service.code, json.dumps({"error": {"code": service.code, "message": message}}).encode())
            return service.code is not None

        def _json(self, value) -> None:
            self._answer(200, json.dumps(value).encode())

        def _answer(self, code, body) -> None:
            with contextlib.suppress(ConnectionError):  # gcsfs asks two things at once, and may need one answer only
                self.send_response(code)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_) -> None:
            """Says nothing."""

    return Handler


def _about(name: str, data: bytes) -> dict:
    return {"name": name, "size": str(len(data)), "bucket": "faulty", "generation": "1"}
