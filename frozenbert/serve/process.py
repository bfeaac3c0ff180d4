"""The process of the service: its address, its token, its connections, and its end."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from types import FrameType

from ..embed import DistilBertVectorizer
from ..errors import InputError
from .app import make_app
from .guard import LOGGER, Limits
from .service import LOCAL_HOSTS, Service, load_encoder_service, load_service

try:
    import httptools
    import uvicorn
    from starlette.types import ASGIApp
    from uvicorn.config import Config
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError as error:
    raise InputError('the service needs its libraries: pip install "frozenbert[serve]".') from error

__all__ = [
    "TOKEN",
    "bind",
    "host_names",
    "is_loopback",
    "make_server",
    "run",
    "serve_encoder",
    "serve_model",
    "token_for",
]

TOKEN = "FROZENBERT_TOKEN"
MIN_TOKEN_LENGTH = 16  # characters
MAX_CONNECTIONS = 1000
KEEP_ALIVE_SECONDS = 15
HEAD_SECONDS = 10.0  # for a request's line and headers to arrive
HEAD_BYTES = 65_536  # of a request's line and headers
GRACE_SECONDS = 0.3  # for requests that are on their way when the service is told to stop
PROBE_SECONDS = 0.5  # between looks at a client that has closed its side

_HOST_NAME = re.compile(r"(\*\.)?[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")


def serve_model(
    path: str | os.PathLike[str],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    allowed_hosts: Sequence[str] = (),
    max_body: int = 10_000_000,
    max_texts: int = 10_000,
    max_characters: int = 10_000,
    max_waiting: int = 1024,
    timeout: float = 60.0,
    encoder_path: str | os.PathLike[str] | None = None,
    device: str | None = None,
    local_files_only: bool = False,
    allow_remote: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    title: str | None = None,
    on_ready: Callable[[Service, str], None] | None = None,
) -> None:
    """Serve a saved model until SIGTERM or Ctrl-C.

    Parameters
    ----------
    path : path-like
        A model's folder, or a file in it. The safe form is preferred.
    host : str, default="127.0.0.1"
        The address to listen on. Beyond loopback, the environment variable FROZENBERT_TOKEN
        must contain a token, which clients have to send.
    port : int, default=8000
        0 chooses a free one.
    allowed_hosts : sequence of str, default=()
        Further names of the service, as in the Host header; `*.example.org` accepts all
        subdomains.
    max_body : int, default=10_000_000
        Bytes of a request's body.
    max_texts : int, default=10_000
        Texts of a request, or rows of a table.
    max_characters : int, default=10_000
        Characters of a text.
    max_waiting : int, default=1024
        Texts in the queue; beyond them requests are refused with 503.
    timeout : float, default=60.0
        Seconds for a body to arrive, and for the next 64 texts of an answer.
    encoder_path, device, local_files_only, allow_remote, cache_dir, title
        As for `frozenbert.serve.service.load_service`.
    on_ready : callable, optional
        Receives the `Service` and its address, such as "http://127.0.0.1:8000", when the model
        is loaded.

    Raises
    ------
    frozenbert.InputError
        If a parameter is not valid, the address is not free, or the model cannot be used.
    """
    _serve(
        lambda **how: load_service(
            path,
            **how,
            encoder_path=encoder_path,
            device=device,
            local_files_only=local_files_only,
            allow_remote=allow_remote,
            cache_dir=cache_dir,
            title=title,
        ),
        (host, port, allowed_hosts),
        Limits(max_body, max_texts, max_characters, timeout),
        max_waiting,
        on_ready,
    )


def serve_encoder(
    vectorizer: DistilBertVectorizer,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    allowed_hosts: Sequence[str] = (),
    max_body: int = 10_000_000,
    max_texts: int = 10_000,
    max_characters: int = 10_000,
    max_waiting: int = 1024,
    timeout: float = 60.0,
    cache_dir: str | os.PathLike[str] | None = None,
    title: str | None = None,
    on_ready: Callable[[Service, str], None] | None = None,
) -> None:
    """Serve the vectors of an encoder, without a classifier, until SIGTERM or Ctrl-C.

    Parameters
    ----------
    vectorizer : DistilBertVectorizer
        Names the encoder and what to compute, as in `DistilBertVectorizer("e5-small-v2")`.
    host, port, allowed_hosts, max_body, max_texts, max_characters, max_waiting, timeout, on_ready
        As for `serve_model`.
    cache_dir, title
        As for `frozenbert.serve.service.load_service`; the vectorizer's own cache does not count.

    Raises
    ------
    frozenbert.InputError
        If a parameter is not valid, the address is not free, or the encoder cannot be used.
    """
    _serve(
        lambda **how: load_encoder_service(vectorizer, **how, cache_dir=cache_dir, title=title),
        (host, port, allowed_hosts),
        Limits(max_body, max_texts, max_characters, timeout),
        max_waiting,
        on_ready,
    )


def _serve(
    load: Callable[..., Service],
    address: tuple[str, int, Sequence[str]],
    limits: Limits,
    max_waiting: int,
    on_ready: Callable[[Service, str], None] | None,
) -> None:
    for name, value in (
        ("max_body", limits.body),
        ("max_texts", limits.texts),
        ("max_characters", limits.characters),
        ("max_waiting", max_waiting),
        ("timeout", limits.seconds),
    ):
        if not value > 0:
            raise InputError("must be above 0.", parameter=name, value=value)
    host, port, allowed_hosts = address
    hosts = host_names(host, allowed_hosts)
    token = token_for(host)
    with bind(host, port) as listening:
        service = load(limits=limits, max_waiting=max_waiting, token=token, hosts=hosts)
        app = make_app(service)
        if on_ready is not None:
            on_ready(service, f"http://{_in_url(host)}:{listening.getsockname()[1]}")
        run(app, listening, limits.seconds)


# The address


def is_loopback(host: str) -> bool:
    """Tell whether an address is reachable from this machine alone.

    Examples
    --------
    >>> [is_loopback(host) for host in ("localhost", "127.0.0.1", "::1", "0.0.0.0", "example.org")]
    [True, True, True, False, False]
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def token_for(host: str) -> str | None:
    """Return the token from the environment, which is required beyond loopback.

    Raises
    ------
    InputError
        If it is missing, or so short that it can be guessed.
    """
    token = os.environ.get(TOKEN) or None
    if token is None:
        if is_loopback(host):
            return None
        raise InputError(
            f"other machines can reach this address, so {TOKEN} must contain a token that "
            f"clients have to send: {TOKEN}=$(openssl rand -hex 24) frozenbert serve ...",
            parameter="host",
            value=host,
        )
    if (
        len(token) < MIN_TOKEN_LENGTH
        or not token.isascii()
        or not token.isprintable()
        or " " in token
    ):
        raise InputError(
            f"{TOKEN}: has {len(token)} characters; it must have at least {MIN_TOKEN_LENGTH}, all "
            f"of ASCII and without spaces: openssl rand -hex 24 makes one."
        )
    return token


def host_names(host: str, others: Iterable[str]) -> list[str]:
    """Return the accepted values of the Host header: this machine's names, and the given ones.

    Parameters
    ----------
    host : str
        The address to listen on.
    others : iterable of str
        Further names.

    Raises
    ------
    InputError
        If one cannot be a host's name.

    Examples
    --------
    >>> host_names("127.0.0.1", ["models.example.org"])[-1]
    'models.example.org'
    """
    others = list(others)
    for name in others:
        if not _HOST_NAME.fullmatch(name):
            raise InputError(
                "not a host's name; *.example.org accepts all subdomains.",
                parameter="allowed_hosts",
                value=name,
            )
    own = [*LOCAL_HOSTS, _in_url(host)]
    if not is_loopback(host):
        own.append(socket.gethostname())
    return [*own, *others]


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def bind(host: str, port: int) -> socket.socket:
    """Listen on an address; done first, because loading a model takes a while.

    Raises
    ------
    InputError
        If that is not possible.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError, UnicodeError) as error:
        # socket adds the address to the reason, which the message names already.
        reason = (getattr(error, "strerror", None) or str(error)).partition(" (while")[0]
        raise InputError(
            f"cannot listen on {_in_url(host)}:{port} ({reason}); choose another port.",
            parameter="port",
            value=port,
        ) from error


# The server


def make_server(app: ASGIApp, seconds: float) -> uvicorn.Server:
    """Return a uvicorn server that does not log requests.

    Parameters
    ----------
    app, seconds
        As for `run`.
    """
    config = Config(
        app,
        http=_Connection,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(seconds) + 1,
    )
    # access_log=False still logs where a handler exists, and paths with their queries.
    logging.getLogger("uvicorn.access").disabled = True
    return uvicorn.Server(config)


def run(
    app: ASGIApp, listening: socket.socket, seconds: float, *, log_requests: bool = True
) -> None:
    """Serve until SIGTERM or Ctrl-C, and answer the accepted requests before the end.

    A closed terminal (SIGHUP) ends it in the same way, unless `nohup` ignores that. A second
    Ctrl-C ends it at once.

    Parameters
    ----------
    app : callable
        The ASGI application.
    listening : socket.socket
        From `bind`.
    seconds : float
        Time limit for the last answers.
    log_requests : bool, default=True
        Whether each request is logged, or errors only.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    requests = logging.INFO if log_requests else logging.WARNING
    for name, level in ((LOGGER, requests), ("uvicorn.error", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False
    server = make_server(app, seconds)

    def stop(_number: int, _frame: FrameType | None) -> None:
        server.should_exit = True

    # uvicorn does not know SIGHUP. It raises the others again at its end, which would end this
    # process.
    handlers = {number: signal.signal(number, stop) for number in _stop_signals()}
    try:
        asyncio.run(server.serve([listening]))
    finally:
        for number, action in handlers.items():
            signal.signal(number, action)


def _stop_signals() -> list[signal.Signals]:
    """Return the signals that stop the service; Windows has no SIGHUP, and `nohup` ignores it."""
    found = [signal.SIGTERM, signal.SIGINT]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        found.append(signal.SIGHUP)
    return found


# Connections


class _RequestParser:
    """httptools' parser, but it ignores a proposed upgrade, and limits a request's head.

    At `Upgrade: h2c` the parser of httptools stops after the head, as the connection would now
    speak another protocol; what follows is the body, as we stay with HTTP/1.1. So the head is
    parsed once more without these headers, and then the body.

    Parameters
    ----------
    protocol : HttpToolsProtocol
        Receives httptools' callbacks.
    """

    def __init__(self, protocol: HttpToolsProtocol) -> None:
        self._protocol = protocol
        # Called for each part of a body: no step in between.
        self.on_body = protocol.on_body
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._in_head = False
        self._head_bytes = 0
        self._restart()

    def _restart(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        # As uvicorn does: the end of a connection may be announced while requests follow.
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def feed_data(self, data: bytes) -> None:
        """Parse the next bytes."""
        while data:
            was_in_head = self._in_head
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                if self._parser.get_method() == b"CONNECT":
                    raise httptools.HttpParserError("CONNECT is not supported") from None
                data = data[upgrade.args[0] :]
                head = self._head_without_upgrade()
                self._restart()
                self._parser.feed_data(head)
                continue
            if was_in_head and self._in_head:
                self._head_bytes += len(data)
                if self._head_bytes > HEAD_BYTES:
                    raise httptools.HttpParserError("the head of the request is too large")
            return

    def _head_without_upgrade(self) -> bytes:
        version = self._parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self._parser.get_method(), self._url, version)]
        lines += [
            b"%b: %b" % (name, value)
            for name, value in self._headers
            if name.lower() not in (b"upgrade", b"http2-settings")
        ]
        return b"\r\n".join([*lines, b"", b""])

    # httptools' callbacks

    def on_message_begin(self) -> None:
        self._url, self._headers = b"", []
        self._in_head, self._head_bytes = True, 0
        self._protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # trailers come after the body and are ignored
            self._headers.append((name, value))
            self._protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        if not self._parser.should_upgrade():
            self._protocol.on_headers_complete()

    def on_message_complete(self) -> None:
        if not self._parser.should_upgrade():
            self._protocol.on_message_complete()

    # What uvicorn asks

    def get_http_version(self) -> str:
        version: str = self._parser.get_http_version()
        return version

    def get_method(self) -> bytes:
        method: bytes = self._parser.get_method()
        return method

    def should_keep_alive(self) -> bool:
        keep_alive: bool = self._parser.should_keep_alive()
        return keep_alive

    def should_upgrade(self) -> bool:
        return False


class _JoinedWrites:
    """A transport that sends the head of an answer together with the begin of its body.

    uvicorn writes them one after the other, and a call of the system for each costs the service
    as much as parsing the request.

    Parameters
    ----------
    transport : asyncio.Transport
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._held = b""
        self.is_closing = transport.is_closing
        self.get_extra_info = transport.get_extra_info

    def write(self, data: bytes) -> None:
        """Write, or hold the data until the next write or the next turn of the event loop."""
        if self._held:
            self._transport.write(self._held + data)
            self._held = b""
        elif data:
            self._held = data
            asyncio.get_running_loop().call_soon(self._flush)

    def close(self) -> None:
        """Write what is held, and close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held)


class _Connection(HttpToolsProtocol):
    """uvicorn's connection, with limits of time and an answer for a client that half closes.

    It overrides methods of asyncio's Protocol, and `shutdown`, which uvicorn's server calls. Of
    uvicorn's attributes it uses three, for which there is no setting:

    - `transport`, replaced by `_JoinedWrites`.
    - `parser`, replaced by `_RequestParser`, because Java's HttpClient proposes an upgrade to
      HTTP/2 with each first request.
    - `cycle`, the last request and its answer: `response_complete`, `response_started` and
      `more_body` tell whether a connection is idle, and whether a request is complete.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # Otherwise the system may hold a packet back for 40 ms, until the client confirms the one
        # before. asyncio sets it only for sockets that were made with the number of TCP.
        client: socket.socket = transport.get_extra_info("socket")
        if client.family in (socket.AF_INET, socket.AF_INET6):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        self.transport = _JoinedWrites(transport)  # type: ignore[assignment]
        self.parser = _RequestParser(self)  # type: ignore[assignment]
        self._channel = transport
        self._head_timer: asyncio.TimerHandle | None = None
        self._await_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._is_idle():
            self._cancel_head_timer()
        elif self._head_timer is None:
            self._await_head()

    def eof_received(self) -> bool | None:  # type: ignore[override]
        if self._is_idle() or self.cycle.more_body:
            return None  # no complete request: asyncio closes the connection
        super().shutdown()  # uvicorn closes it after the answer
        self._probe_later()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_head_timer()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        # uvicorn would close an idle connection at once, and a request that is on its way gets
        # no answer.
        if self._is_idle():
            asyncio.get_running_loop().call_later(GRACE_SECONDS, super().shutdown)
        else:
            super().shutdown()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _await_head(self) -> None:
        loop = asyncio.get_running_loop()
        self._head_timer = loop.call_later(HEAD_SECONDS, self._channel.close)

    def _cancel_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _probe_later(self) -> None:
        asyncio.get_running_loop().call_later(PROBE_SECONDS, self._probe)

    def _probe(self) -> None:
        """Drop the connection if the client has closed both sides.

        The end of the client's data looks the same whether it has closed one side or both. If
        it has closed both, its system answers further bytes with a reset. The bytes sent here
        are an interim response, which clients skip while they wait for the answer.
        """
        if self._channel.is_closing() or self._is_idle():
            return
        client: socket.socket = self._channel.get_extra_info("socket")
        if client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._channel.abort()
            return
        # HTTP/1.0 has no interim responses, and none may follow the begin of the answer.
        if not self.cycle.response_started and self.parser.get_http_version() != "1.0":
            self._channel.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._probe_later()
