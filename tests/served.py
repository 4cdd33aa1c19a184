"""A server of files on this machine, for the tests of downloads; it can be told to break off.

A pytest plugin, for its fixture. PYTEST_DONT_REWRITE: the tests have imported it before pytest registers it.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@dataclass
class Mirror:
    """A server on this machine, and what it does with a file."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    cut: str = ""
    """The file whose second half never comes; the connection closes."""
    stalled: str = ""
    """The file whose second half never comes; the connection stays open."""
    headers: dict[str, str] = field(default_factory=dict)
    """That it sends with every file."""
    half_sent: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    state = Mirror()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.begin(self.path.lstrip("/"))

        def begin(self, name: str) -> bytes | None:
            """Send what comes before the content; return that."""
            content = state.files.get(name)
            if content is None:
                self.send_error(404)
                return None
            self.send_response(200)
            for key, value in state.headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            return content

        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            state.asked.append(name)
            content = self.begin(name)
            if content is None:
                return
            try:
                if name in (state.cut, state.stalled):
                    self.wfile.write(content[: len(content) // 2])
                    # torchvision asks once to follow redirects and once for the file.
                    if state.asked.count(name) > 1:
                        state.half_sent.set()
                    if name == state.stalled:
                        state.release.wait(60)
                else:
                    self.wfile.write(content)
            except OSError:
                pass  # the client has hung up

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    state.release.set()
    server.shutdown()
    thread.join()
    server.server_close()
