"""The fake provider's server: the standard library's, with a thread for each connection."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec

from perdure.testing.fake_llm.exchange import Answer, Call, echo
from perdure.testing.fake_llm.faults import Fault, Kind
from perdure.testing.fake_llm.limits import Limits
from perdure.testing.fake_llm.provider import Books, Outcome, Provider

#: Where whoever has only the address reads the books, and plays faults.
CALLS_PATH, FAULTS_PATH = "/_fake/calls", "/_fake/faults"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, port: int, provider: Provider, latency: float) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.provider = provider
        self.latency = latency
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are killed leave broken connections: nothing to tell of."""

    def hang_up(self) -> None:
        """End the connections that clients keep open."""
        with self._lock:
            still = list(self._open)
        for connection in still:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride] - it is never another one

    def log_message(self, format: str, *args: Any) -> None:
        """The books tell more."""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == CALLS_PATH:
            self._send(200, {}, msgspec.json.encode(self.server.provider.calls))
            return
        outcome = self.server.provider.look(path, f"http://{self.headers.get('host')}")
        self._send(outcome.status, outcome.headers, _bytes(outcome))

    def do_POST(self) -> None:
        path = urlsplit(self.path).path
        data = self.rfile.read(int(self.headers.get("content-length") or 0))
        if path == FAULTS_PATH:
            self.server.provider.script(msgspec.json.decode(data, type=list[Fault | None]))
            self._send(200, {}, b"{}")
            return
        key = self.headers.get("idempotency-key")
        if path.endswith("/files"):  # a form, which only its header tells how to read
            data = b"Content-Type: %b\r\n\r\n%b" % (self.headers["content-type"].encode(), data)
        try:
            outcome = self.server.provider.begin(path, data, key)
            if outcome is None:
                outcome = self.server.provider.handle(path, json.loads(data), key)
        except ValueError:
            self._send(400, {}, b'{"error": {"message": "the request is not JSON"}}')
            return
        fault = outcome.fault
        if self.server.latency:
            time.sleep(self.server.latency)
        if fault is not None and fault.kind is Kind.HANG:
            time.sleep(fault.seconds)
        if fault is not None and fault.kind is Kind.LOST:
            self.close_connection = True
        elif outcome.body is None:
            self._stream(outcome)
        else:
            self._send(
                outcome.status,
                outcome.headers,
                _bytes(outcome),
                cut=fault is not None and fault.kind is Kind.CUT,
            )

    def _send(self, status: int, headers: Any, body: bytes, *, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if cut:
            body = body[: len(body) // 2]
            self.close_connection = True
        self.wfile.write(body)

    def _stream(self, outcome: Outcome) -> None:
        self.send_response(outcome.status)
        for name, value in outcome.headers.items():
            self.send_header(name, value)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        events: Iterable[bytes] = outcome.events
        cut = outcome.fault is not None and outcome.fault.kind is Kind.CUT
        if cut:
            assert outcome.fault is not None
            events = outcome.events[: outcome.fault.pieces]
        for event in events:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
            self.wfile.flush()
        if cut:
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")


def _bytes(outcome: Outcome) -> bytes:
    return outcome.body if isinstance(outcome.body, bytes) else json.dumps(outcome.body).encode()


class FakeLLM(Books):
    """A provider of language models for tests, in a thread of this process. A context manager.

    Args:
        answer: what the model says: a function of the `Prompt` that returns a text or a `Reply`. Equal prompts should
            get equal answers. Without one, each answer repeats the beginning of what was said last.
        requests_per_minute, tokens_per_minute: what goes beyond gets a 429 with the time to wait. Responses tell how
            the limits stand, as the provider in question does.
        burst: how many requests may come at once; a minute's worth without it.
        latency: seconds that each answer takes.
        jobs_take: seconds that background responses and batches take.
        port: where to listen, on 127.0.0.1; 0 for any.
        clock: wall-clock seconds, for the limits.

    Attributes:
        url: where it listens, for the clients of Anthropic and Google.
        openai_url: the same for OpenAI's, which wants the version in it.

    Example:
        >>> from perdure.testing.fake_llm import FakeLLM, rate_limited
        >>> with FakeLLM() as llm:  # doctest: +SKIP
        ...     client = openai.OpenAI(base_url=llm.openai_url, api_key="any", max_retries=0)
        ...     llm.script(rate_limited(retry_after=2))  # what the next request meets
        ...     ...
        ...     assert len(llm.billed) == 40
    """

    def __init__(
        self,
        answer: Answer = echo,
        *,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        burst: float | None = None,
        latency: float = 0.0,
        jobs_take: float = 0.0,
        port: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        limits = Limits(requests_per_minute, tokens_per_minute, burst)
        self._provider = Provider(answer, limits, clock, jobs_take)
        self._server = _Server(port, self._provider, latency)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="fake-llm", daemon=True
        )
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def openai_url(self) -> str:
        return f"{self.url}/v1"

    @property
    def calls(self) -> list[Call]:
        return self._provider.calls

    @property
    def looks(self) -> int:
        """How often somebody has asked how a background response or a batch stands."""
        return self._provider.jobs.looks

    @property
    def cancelled(self) -> int:
        """How many of these were cancelled before they were over."""
        return self._provider.jobs.cancelled

    def jobs_take(self, seconds: float) -> None:
        """Let those that begin from now on take so long."""
        self._provider.jobs.takes = seconds

    def script(self, *faults: Fault | None) -> None:
        """What the next requests meet, one after the other; None: that one goes well."""
        self._provider.script(faults)

    def start(self) -> Self:
        """Begin to listen."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop listening, and end every connection."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.hang_up()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
