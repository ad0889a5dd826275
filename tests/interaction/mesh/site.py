"""A web site that serves one file by ranges, and cuts or refuses when it is told to."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONTENT = bytes(range(256)) * 4096


@dataclass
class Site:
    """A hub: serves `content`, remembers what it was asked, and cuts an answer after `cut` bytes."""

    content: bytes = CONTENT
    cut: int | None = None
    status: int | None = None
    asked: list[str] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving() -> Iterator[Site]:
    """The site on a free port of this machine."""
    site = Site()

    class Door(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append(f"{self.path} {self.headers['Range']}")
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            body = site.content[start:]
            self.send_response(site.status or (206 if start else 200))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: site.cut])

        def do_HEAD(self) -> None:
            self.send_response(site.status or 200)
            self.send_header("Content-Length", str(len(site.content)))
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
