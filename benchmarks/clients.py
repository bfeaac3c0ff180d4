"""Clients of the service, for serve.py: connections with one request each at a time.

python benchmarks/clients.py PORT CLIENTS < BODIES

BODIES has the body of a request to /predict in each line. Prints a line of JSON: seconds of the
whole and of each request, seconds of CPU time of the clients and of the process $SERVER, and what
came back. It uses the standard library
alone and parses no more than it must, because it shares the cores with the service.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from collections import deque

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


class Client(asyncio.Protocol):
    """One connection: sends the next request when the former is answered."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self.transport = transport
        self.send_next()

    def send_next(self) -> None:
        """Send the next request, or end."""
        if not self.load.left:
            self.transport.close()
            return
        self.number, request = self.load.left.popleft()
        self.begun = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Note the answer when it is complete."""
        self.received += data
        head = self.received.find(b"\r\n\r\n")
        length = LENGTH.search(self.received, 0, head + 2) if head >= 0 else None
        if length is None or len(self.received) < head + 4 + int(length[1]):
            return
        self.load.seconds[self.number] = time.perf_counter() - self.begun
        self.load.answers[self.number] = self.received
        self.received = b""
        self.send_next()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count the connections that are left."""
        self.load.n_open -= 1
        if not self.load.n_open:
            self.load.ended.set()


class Load:
    """Requests, and what became of them.

    Parameters
    ----------
    bodies : list of bytes
    """

    def __init__(self, bodies: list[bytes]) -> None:
        head = (
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b"
        )
        self.left = deque(enumerate(head % (len(body), body) for body in bodies))
        self.seconds: list[float | None] = [None] * len(bodies)
        self.answers = [b""] * len(bodies)
        self.ended = asyncio.Event()

    async def run(self, port: int, n_clients: int) -> dict[str, object]:
        """Send all requests, and return times and answers."""
        loop = asyncio.get_running_loop()
        self.n_open = n_clients
        begun, cpu, server = time.perf_counter(), time.process_time(), cpu_of_server()
        for _ in range(n_clients):
            await loop.create_connection(lambda: Client(self), "127.0.0.1", port)
        await self.ended.wait()
        return {
            "whole": time.perf_counter() - begun,
            "cpu": time.process_time() - cpu,
            "server_cpu": cpu_of_server() - server,
            "seconds": self.seconds,
            "statuses": [int(answer[9:12] or 0) for answer in self.answers],
            "answers": [answer.partition(b"\r\n\r\n")[2].decode() for answer in self.answers],
        }


def cpu_of_server() -> float:
    """Return the seconds of CPU time that the process $SERVER has used; 0 where that is unknown."""
    path = f"/proc/{os.environ.get('SERVER')}/stat"
    if not os.path.exists(path):
        return 0.0
    with open(path) as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    load = Load([line.rstrip(b"\n") for line in sys.stdin.buffer])
    print(json.dumps(asyncio.run(load.run(int(sys.argv[1]), int(sys.argv[2])))))
