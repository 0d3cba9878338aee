"""Headless Chromium, driven over its debugging pipe: no package, no port, no network."""

import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import time

SECONDS = 60  # for one answer


def executable():
    """Path of the browser, or None."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    """One page of a browser; messages are those of the Chrome DevTools Protocol."""

    def __init__(self, reading, writing, process):
        self._reading, self._writing, self._process = reading, writing, process
        self._buffer, self._number, self._session = b"", 0, None
        self.complaints = []  # what the page wrote to the console as an error, and exceptions
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Performance"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        """Sends a command and returns its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._writing, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self._note(answer)

    def open(self, address):
        """Goes to an address and waits until the page says that it is ready; returns the seconds."""
        started = time.monotonic()
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=address)
        self.wait("document.documentElement?.dataset.ready === 'yes'")
        return time.monotonic() - started

    def value(self, expression):
        """What JavaScript makes of an expression."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, expression, seconds=SECONDS):
        """Until the expression holds."""
        end = time.monotonic() + seconds
        while not self.value(expression):
            assert time.monotonic() < end, f"never true: {expression}; {self.complaints}"
            time.sleep(0.03)

    def expect(self, expression, value, seconds=SECONDS):
        """Until the expression has the value: a page answers keys, clicks and addresses when it gets to them."""
        end = time.monotonic() + seconds
        while (found := self.value(expression)) != value:
            assert time.monotonic() < end, f"{expression}: expected {value!r}, found {found!r}; {self.complaints}"
            time.sleep(0.03)

    def click(self, selector):
        """Presses and releases the left button in the middle of an element."""
        place = self.value(f"(() => {{ const e = document.querySelector({json.dumps(selector)}); "
                           "e.scrollIntoView({block: 'center', behavior: 'instant'}); "
                           "const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; })()")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def press(self, key):
        """A key, by its name in JavaScript."""
        code = {"ArrowLeft": 37, "ArrowRight": 39, "Escape": 27}[key]
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def _next(self):
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._reading], [], [], SECONDS)
            data = os.read(self._reading, 1 << 20) if ready else b""
            if not data:
                raise TimeoutError(f"the browser does not answer ({self._process.poll()})")
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def _note(self, message):
        method, parameters = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.complaints.append(str(parameters["exceptionDetails"]))
        if method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.complaints.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")
        if method == "Runtime.consoleAPICalled" and parameters["type"] == "error":
            self.complaints.append(str(parameters["args"]))


@contextlib.contextmanager
def browser(profile, width=1366, height=768):
    """A browser with a profile folder of its own, closed at the end."""
    pipes = [os.pipe(), os.pipe()]
    # The browser reads descriptor 3 and writes 4; numbers far from these make the shell's copying safe.
    theirs = [fcntl.fcntl(pipes[0][0], fcntl.F_DUPFD, 20), fcntl.fcntl(pipes[1][1], fcntl.F_DUPFD, 20)]
    command = ["bash", "-c", f'exec "$0" "$@" 3<&{theirs[0]} 4>&{theirs[1]}', executable(), "--headless=new",
               "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
               "--disable-background-networking", "--disable-extensions", f"--user-data-dir={profile}",
               f"--window-size={width},{height}", "--hide-scrollbars", "about:blank"]
    process = subprocess.Popen(command, pass_fds=theirs, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for descriptor in (pipes[0][0], pipes[1][1], *theirs):
        os.close(descriptor)
    try:
        page = Browser(pipes[1][0], pipes[0][1], process)
        page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        yield page
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for descriptor in (pipes[1][0], pipes[0][1]):
            os.close(descriptor)
