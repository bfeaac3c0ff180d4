"""The process of the web service: its address, its token, its connections and its end."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import re
import signal
import socket
import sys
from typing import Any

from ..errors import InputError

try:
    import uvicorn
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError as error:
    raise InputError('the service needs its libraries: pip install "frozenbert[serve]".') from error

__all__ = ["TOKEN", "bind", "host_names", "is_loopback", "make_server", "run", "token_for"]

TOKEN = "FROZENBERT_TOKEN"
TOKEN_LENGTH = 16  # characters at least
HEAD_SECONDS = 10.0  # for a request's line and headers to arrive
GRACE = 0.3  # seconds for a request that is on its way when the service is told to stop
CONNECTIONS = 1000

_NAME = re.compile(r"(\*\.)?[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")


class _Connection(HttpToolsProtocol):
    """uvicorn's connection, which does not wait for ever, nor end while a request arrives."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_idle():
            self._watch()

    def shutdown(self) -> None:
        if self._is_idle():
            self.loop.call_later(GRACE, super().shutdown)
        else:
            super().shutdown()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _watch(self) -> None:
        self.loop.call_later(HEAD_SECONDS, self._end_if_still, self.cycle)

    def _end_if_still(self, cycle: Any) -> None:
        waits = self.timeout_keep_alive_task is None  # for the rest of a request
        if self.cycle is cycle and self._is_idle() and waits and not self.transport.is_closing():
            self.transport.close()


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone.

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
    """Return the token from the environment, which must be there beyond loopback.

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
            f"--host {host}: others can reach that, so {TOKEN} must hold a token that they have "
            f"to send: {TOKEN}=$(openssl rand -hex 24) frozenbert serve ..."
        )
    if len(token) < TOKEN_LENGTH or not token.isascii() or not token.isprintable() or " " in token:
        raise InputError(
            f"{TOKEN}: has {len(token)} characters; it must have at least {TOKEN_LENGTH}, of "
            f"ASCII and without spaces: openssl rand -hex 24 makes one."
        )
    return token


def host_names(host: str, others: list[str]) -> list[str]:
    """Return what the Host header may say: this machine's names, and those that were given.

    Examples
    --------
    >>> host_names("127.0.0.1", ["models.example.org"])[-1]
    'models.example.org'
    """
    for name in others:
        if not _NAME.fullmatch(name):
            raise InputError(
                f"--allowed-host {name}: is no host's name; *.example.org stands for all below it."
            )
    own = ["localhost", "127.0.0.1", "[::1]", f"[{host}]" if ":" in host else host]
    if not is_loopback(host):
        own.append(socket.gethostname())
    return [*own, *others]


def bind(host: str, port: int) -> socket.socket:
    """Take the address, before a model is loaded in vain.

    Raises
    ------
    InputError
        If it cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError, UnicodeError) as error:
        raise InputError(
            f"--host {host} --port {port}: cannot be listened at ({error}); choose another --port."
        ) from error


def make_server(app: Any, seconds: float) -> uvicorn.Server:
    """Return a uvicorn server with our connections, which logs no request itself.

    Parameters
    ----------
    app, seconds
        As for `run`.
    """
    config = uvicorn.Config(
        app,
        http=_Connection,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=int(seconds) + 1,
    )
    # It would hold what stands behind a "?".
    logging.getLogger("uvicorn.access").disabled = True
    return uvicorn.Server(config)


def run(app: Any, listening: socket.socket, seconds: float) -> None:
    """Serve until SIGTERM or Ctrl-C; requests that were accepted are answered first.

    A second Ctrl-C ends it at once.

    Parameters
    ----------
    app : callable
        The ASGI application.
    listening : socket.socket
        From `bind`.
    seconds : float
        For the last answers, after which those that are not ready are given up.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    for name, level in (("frozenbert.serve.app", logging.INFO), ("uvicorn.error", logging.WARNING)):
        logging.getLogger(name).handlers[:] = [handler]
        logging.getLogger(name).setLevel(level)
        logging.getLogger(name).propagate = False
    # uvicorn raises the signals that ended it once more when it is done: not to end by them.
    before = {number: signal.signal(number, _ended) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        asyncio.run(make_server(app, seconds).serve([listening]))
    finally:
        for number, action in before.items():
            signal.signal(number, action)


def _ended(*_: Any) -> None:
    """Do nothing: the service has stopped."""
