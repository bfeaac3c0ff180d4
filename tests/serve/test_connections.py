"""Connections: upgrades, half-closed clients, slow clients and the Host header."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import logging
import socket
import struct
import time

import pytest
from serving import DEADLINE, WordModel, serving, wait_until

from frozenbert.serve.guard import Limits
from frozenbert.serve.process import _Connection, _JoinedWrites

BODY = json.dumps({"texts": ["a good film"]}).encode()
JAVA = (
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n"
)


@pytest.fixture
def model():
    return WordModel()


@pytest.fixture
def client(model, tmp_path):
    with serving(model, tmp_path) as client:
        yield client


@contextlib.contextmanager
def connected(client):
    with socket.create_connection(("127.0.0.1", client.port), timeout=DEADLINE) as connection:
        yield connection


def post(body=BODY, *, path="/predict", version="1.1", headers="", host="localhost"):
    """A POST request as bytes."""
    head = f"POST {path} HTTP/{version}\r\nContent-Type: application/json\r\n"
    head += f"Host: {host}\r\n" if host else ""
    return f"{head}Content-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def response_of(connection):
    """The next response: status and JSON."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status, json.loads(response.read())


def everything_from(connection):
    """All bytes until the server closes the connection."""
    parts = []
    while part := connection.recv(65_536):
        parts.append(part)
    return b"".join(parts)


# Upgrades


def test_a_proposed_upgrade_is_ignored(client):
    with connected(client) as connection:
        for _ in range(2):  # the connection stays open
            connection.sendall(post(headers=JAVA))
            status, answer = response_of(connection)
            assert (status, answer["predictions"]) == (200, ["good"])


def test_an_upgrade_that_arrives_byte_by_byte(client):
    with connected(client) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in post(headers=JAVA):
            connection.sendall(bytes([byte]))
        assert response_of(connection)[0] == 200


def test_upgrades_with_chunks_without_body_and_pipelined(client):
    chunked = (
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        + JAVA.encode()
        + b"Transfer-Encoding: chunked\r\n\r\n"
        + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (BODY[:7], BODY[7:]))
        + b"0\r\n\r\n"
    )
    without_body = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + JAVA.encode() + b"\r\n"
    with connected(client) as connection:
        connection.sendall(chunked + without_body + post(headers=JAVA))
        connection.shutdown(socket.SHUT_WR)
        content = everything_from(connection)
        statuses = [int(part[:3]) for part in content.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [200, 200, 200]
    assert content.count(b'"predictions":["good"]') == 2


def test_upgrade_headers_do_not_change_what_is_refused(client):
    with connected(client) as connection:
        connection.sendall(post(b"{}", headers=JAVA))
        assert response_of(connection)[0] == 422
    with connected(client) as connection:
        connection.sendall(b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert everything_from(connection).startswith(b"HTTP/1.1 400 ")
    assert client.predict("fine").status == 200


# Packets


def test_no_packet_is_held_back(client, monkeypatch):
    """Otherwise Linux holds the second packet of an answer for 40 ms."""
    made = []
    original = _Connection.connection_made

    def connection_made(self, transport):
        original(self, transport)
        made.append(transport.get_extra_info("socket"))

    monkeypatch.setattr(_Connection, "connection_made", connection_made)
    with connected(client) as connection:
        connection.sendall(post())
        assert response_of(connection)[0] == 200
        (accepted,) = made
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


class Written:
    """A transport that notes what it sends."""

    def __init__(self):
        self.sent = []

    def write(self, data):
        self.sent.append(data)

    def close(self):
        self.sent.append("closed")

    def is_closing(self):
        return "closed" in self.sent

    def get_extra_info(self, name):
        raise AssertionError(name)


def test_head_and_body_are_sent_together():
    async def write():
        transport = Written()
        joined = _JoinedWrites(transport)
        joined.write(b"head, ")
        joined.write(b"body")
        assert transport.sent == [b"head, body"]
        joined.write(b"alone")
        assert transport.sent == [b"head, body"]
        await asyncio.sleep(0)
        assert transport.sent == [b"head, body", b"alone"]
        joined.write(b"last")
        joined.write(b"")
        joined.close()
        await asyncio.sleep(0)
        return transport.sent, joined.is_closing()

    sent = [b"head, body", b"alone", b"last", "closed"]
    assert asyncio.run(write()) == (sent, True)


# Half-closed clients


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_half_closed_client_is_answered(client, version):
    with connected(client) as connection:
        connection.sendall(post(version=version))
        connection.shutdown(socket.SHUT_WR)
        content = everything_from(connection)
    assert content.startswith(b"HTTP/1.1 200 ")
    assert b'"predictions":["good"]' in content


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_half_closed_client_may_wait_for_its_answer(client, model, version):
    model.go.clear()
    with connected(client) as connection:
        connection.sendall(post(version=version))
        wait_until(lambda: model.entered == 1)
        connection.shutdown(socket.SHUT_WR)
        time.sleep(1.2)  # twice as long as the time between looks at the client
        model.go.set()
        status, answer = response_of(connection)
        assert (status, answer["predictions"]) == (200, ["good"])
        assert connection.recv(1) == b"", "closed after the answer"


def test_a_half_closed_client_gets_a_whole_table(client):
    rows = "text\n" + "good\n" * 2000
    with connected(client) as connection:
        connection.sendall(post(rows.encode(), path="/predict.csv", version="1.0"))
        connection.shutdown(socket.SHUT_WR)
        content = everything_from(connection)
    assert content.count(b'\n"good",') == 2000


def test_a_half_closed_client_is_answered_within_the_time_limit(model, tmp_path):
    model.go.clear()
    with serving(model, tmp_path, limits=Limits(seconds=1.5)) as client:
        with connected(client) as connection:
            connection.sendall(post())
            connection.shutdown(socket.SHUT_WR)
            assert response_of(connection)[0] == 504
        model.go.set()


@pytest.mark.parametrize("way", ["close", "reset"])
def test_a_client_that_has_left_leaves_the_queue(client, model, way):
    model.go.clear()
    with connected(client) as first:
        first.sendall(post())
        wait_until(lambda: model.entered == 1)
        with connected(client) as leaving:
            if way == "reset":
                leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            leaving.sendall(post(json.dumps({"texts": ["never asked"] * 10}).encode()))
            wait_until(lambda: client("GET", "/readyz").json["waiting_texts"] == 10)
        wait_until(lambda: client("GET", "/readyz").json["waiting_texts"] == 0)
        model.go.set()
        assert response_of(first)[0] == 200
    assert client.predict("fine").status == 200
    assert not any("never asked" in call for call in model.calls)


@pytest.mark.parametrize("start", [b"", b"GET /hea", post()[:-1]])
def test_half_of_a_request_gets_no_answer(client, start):
    with connected(client) as connection:
        connection.sendall(start)
        connection.shutdown(socket.SHUT_WR)
        assert everything_from(connection) == b""


# Slow clients and large heads


def test_slow_clients_are_disconnected(model, tmp_path, monkeypatch):
    monkeypatch.setattr("frozenbert.serve.process.HEAD_SECONDS", 0.5)
    with serving(model, tmp_path, limits=Limits(seconds=1.5)) as client:
        with connected(client) as slow:
            slow.sendall(post()[:-1])
            assert b" 408 " in slow.recv(4096)
        for start in (b"", b"POST /pre", b"POST /predict HTTP/1.1\r\nHost: local"):
            with connected(client) as silent:
                silent.sendall(start)
                assert silent.recv(4096) == b""
        assert client.predict("fine").status == 200


def test_a_head_that_trickles_in_is_disconnected(client, monkeypatch):
    """Each byte would renew a limit on silence; the whole head has one."""
    monkeypatch.setattr("frozenbert.serve.process.HEAD_SECONDS", 0.5)
    with connected(client) as slow:
        slow.sendall(b"GET /healthz HTTP/1.1\r\n")

        def is_disconnected():
            try:
                slow.sendall(b"x")
            except ConnectionError:
                return True
            return False

        wait_until(is_disconnected)


def test_the_head_of_a_request_is_limited(client):
    with connected(client) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ")
            for _ in range(100):
                connection.sendall(b"x" * 100_000)
        with contextlib.suppress(ConnectionError):
            assert everything_from(connection).startswith(b"HTTP/1.1 400 ")
    large = {"X-Large": "x" * 30_000}
    assert client("GET", "/healthz", headers=large).status == 200


def test_trailers_are_ignored(client):
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    chunk = b"%x\r\n%b\r\n" % (len(BODY), BODY)
    request = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk + b"0\r\nHost: evil\r\n\r\n"
    with connected(client) as connection:
        connection.sendall(request)
        assert response_of(connection)[0] == 200


def test_a_client_that_does_not_read_is_disconnected(model, tmp_path, caplog):
    logging.getLogger("frozenbert.serve").propagate = True
    rows = ("text\n" + f"{'good ' * 1000}\n" * 1900).encode()
    with serving(model, tmp_path, limits=Limits(seconds=1.5)) as client, connected(client) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.sendall(post(rows, path="/predict.csv"))
        wait_until(lambda: "TimeoutError" in caplog.text)
        assert client.predict("fine").status == 200


# The Host header


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ("GET /healthz HTTP/1.0\r\n", 200),
        ("GET /readyz HTTP/1.0\r\n", 200),
        ("GET /healthz HTTP/1.1\r\n", 400),
        ("HEAD /healthz HTTP/1.0\r\n", 400),
        ("POST /healthz HTTP/1.0\r\n", 400),
        ("GET / HTTP/1.0\r\n", 400),
        ("GET /model HTTP/1.0\r\n", 400),
        ("GET /model HTTP/1.0\r\nHost: localhost\r\n", 200),
        ("GET /healthz HTTP/1.0\r\nHost:\r\n", 400),
        ("GET /healthz HTTP/1.0\r\nHost: evil.example\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n", 400),
        ("GET /healthz HTTP/1.1\r\nHost: evil.example\r\nHost: localhost\r\n", 400),
    ],
)
def test_requests_need_one_host_header(client, request_, status):
    with connected(client) as connection:
        connection.sendall(request_.encode() + b"\r\n")
        connection.shutdown(socket.SHUT_WR)
        assert everything_from(connection).startswith(b"HTTP/1.1 %d " % status)


def test_only_known_hosts_are_answered(model, tmp_path):
    hosts = ["localhost", "[::1]", "127.0.0.1", "*.example.org"]
    with serving(model, tmp_path, hosts=hosts) as client:
        for host in (
            "evil.example", "localhost.evil.example", "", "example.org", "localhost@evil.example",
            "localhost:80:80", "[::2]",
        ):  # fmt: skip
            answer = client("GET", "/", headers={"Host": host})
            assert answer.status == 400, host
            assert "Host header" in answer.json["detail"]
        for host in (
            "localhost", "LOCALHOST", f"127.0.0.1:{client.port}", "[::1]:8000", "[::1]",
            "a.example.org",
        ):  # fmt: skip
            assert client("GET", "/", headers={"Host": host}).status == 200, host
