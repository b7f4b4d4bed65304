"""A proxy before an S3 server that loses answers: before a request is passed on, or after it."""

from __future__ import annotations

import http.client
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class LossyProxy:
    """Passes requests on to a port of this host; `rate` of them get no answer.

    Of these one half never arrive, and the other half are applied before the connection is closed.
    `before` and `after` count them.
    """

    def __init__(self, port: int, rate: float, seed: int = 0) -> None:
        self.rate, self.before, self.after = rate, 0, 0
        self._chance, self._target, self._lock = random.Random(seed), port, threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass_on(self) -> None:
                proxy._serve(self)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on

            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                """Says nothing: clients go away, as killed ones do."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Ends the proxy."""
        self._server.shutdown()
        self._server.server_close()

    def _fate(self) -> str:
        with self._lock:
            drawn = self._chance.random()
            if drawn < self.rate / 2:
                self.before += 1
                return "before"
            if drawn < self.rate:
                self.after += 1
                return "after"
        return ""

    def _serve(self, request: Any) -> None:
        fate = self._fate()
        if request.headers.get("Expect", "").lower() == "100-continue":
            request.send_response_only(100)
            request.end_headers()
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        if fate == "before":
            request.close_connection = True
            return
        upstream = http.client.HTTPConnection("127.0.0.1", self._target, timeout=60)
        headers = {k: v for k, v in request.headers.items() if k.lower() != "expect"}
        upstream.request(request.command, request.path, body=body, headers=headers)
        answer = upstream.getresponse()
        content = answer.read()
        upstream.close()
        if fate == "after":
            request.close_connection = True
            return
        request.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in {"transfer-encoding", "connection", "content-length"}:
                request.send_header(name, value)
        length = answer.getheader("Content-Length") if request.command == "HEAD" else None
        request.send_header("Content-Length", length or str(len(content)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(content)
