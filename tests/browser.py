"""A real browser for tests: Debian's chromium without a window, driven through a pipe.

Chromium speaks the DevTools protocol on two file descriptors, as JSON between zero bytes; so there
is neither a port nor a driver to install. An uncaught error in a page is an error here.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe",
]  # fmt: skip

_PATIENCE = 60.0
"""Seconds within which any answer has come, on a machine that has much else to do."""


def chromium() -> str | None:
    """Where the browser is, if it is."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next(filter(None, map(shutil.which, names)), None)


needs_chromium = pytest.mark.skipif(chromium() is None, reason="no chromium: apt install chromium")


class PageError(AssertionError):
    """A page's script has failed."""


class Browser:
    """One page of a browser; use it as a context manager."""

    def __init__(self) -> None:
        program = chromium()
        assert program is not None
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        from_us, self._to = os.pipe()
        self._from, to_us = os.pipe()
        self.errors: list[str] = []
        self._number = 0
        self._buffer = b""
        # The descriptors that chromium reads from and writes to are 3 and 4.
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec 3<&{from_us} 4>&{to_us}; exec "$@"', "chromium", program,
             *FLAGS, f"--user-data-dir={self._folder.name}", "about:blank"],
            pass_fds=(from_us, to_us), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(from_us)
        os.close(to_us)
        self._session: str | None = None
        targets = self._call("Target.getTargets")["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        attached = self._call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *error: object) -> None:
        self._session = None
        try:
            self._call("Browser.close")
        except (OSError, PageError):
            self._process.kill()
        self._process.wait(_PATIENCE)
        os.close(self._to)
        os.close(self._from)
        self._folder.cleanup()

    def _call(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + _PATIENCE
        while True:
            answer = self._next(deadline)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise PageError(f"{method}: {answer['error']}")
                return answer["result"]
            self._event(answer)

    def _next(self, deadline: float) -> Any:
        while b"\0" not in self._buffer:
            left = max(deadline - time.monotonic(), 0.0)
            ready, _, _ = select.select([self._from], [], [], left)
            assert ready, "the browser does not answer"
            more = os.read(self._from, 1 << 16)
            if not more:
                raise OSError("the browser has ended")
            self._buffer += more
        line, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(line)

    def _event(self, event: Any) -> None:
        parameters = event.get("params", {})
        if event["method"] == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            text = details.get("exception", {}).get("description") or details["text"]
            self.errors.append(text)
        elif event["method"] == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.errors.append(parameters["entry"]["text"])

    def _check(self) -> None:
        if self.errors:
            raise PageError("; ".join(self.errors))

    def open(self, path: Path, width: int = 1200, height: int = 800, dark: bool = False) -> None:
        """Show a file, in a window of this size."""
        phone = width < 600
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=2 if phone else 1, mobile=phone,
        )  # fmt: skip
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self._call("Emulation.setEmulatedMedia", features=scheme)
        self._call("Page.navigate", url=path.absolute().as_uri())
        self.wait("document.readyState === 'complete'")
        self._check()

    def run(self, script: str) -> Any:
        """The value of an expression in the page; PageError where it, or the page, fails."""
        result = self._call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            raise PageError(details.get("exception", {}).get("description") or details["text"])
        self._check()
        return result["result"].get("value")

    def wait(self, condition: str) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not self.run(f"!!({condition})"):
            assert time.monotonic() < deadline, f"never: {condition}"
            time.sleep(0.01)

    def key(self, key: str) -> None:
        """Press a key."""
        for kind in ("keyDown", "keyUp"):
            self._call("Input.dispatchKeyEvent", type=kind, key=key, code=key)
        self._check()

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """Write what is seen, or the whole page, as a PNG file."""
        shot = self._call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))
