"""Servers that break off in the middle of an answer, and later do not."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import socket

from tests.integration.forge import proxy_that_hangs_up, server

EVERYTHING = 1 << 40


@contextmanager
def cut_git(forge: Path, left: list[int]) -> Iterator[str]:
    """Serve repositories; connections get as many bytes as is ``left`` for them. Yields the address."""

    def answer(connection: socket) -> None:
        try:
            proxy_that_hangs_up(forge, left.pop(0) if left else EVERYTHING)(connection)
        except OSError:
            return  # the client has hung up

    with server(answer) as (address, _):
        yield address


@contextmanager
def cut_downloads(forge: Path, left: list[str], part: float) -> Iterator[str]:
    """Serve files; the answers ``left`` end after a ``part``, say that this is all, have other bytes, or are a 404."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = (forge / self.path.lstrip("/")).read_bytes()
            how = left.pop(0) if left else "whole"
            cut = int(part * len(content))
            body = {"cut": content[:cut], "short": content[:cut], "other": content[::-1], "gone": b""}.get(how, content)
            self.send_response(404 if how == "gone" else 200)
            self.send_header("Content-Length", str(len(content) if how == "cut" else len(body)))
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = True

        def log_message(self, *_words: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        thread = threading.Thread(target=listener.serve_forever, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.server_port}"
        listener.shutdown()
        thread.join()
