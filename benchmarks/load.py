"""Keep-alive clients on raw sockets, in a process of their own.

`python -m benchmarks.load PORT PATH` reads numbers of requests, a line each, and prints how many
seconds they took. Every connection has one request under way at a time: no pipelining.
"""

from __future__ import annotations

import socket
import sys
import time

__all__ = ["CONNECTIONS", "request_bytes"]

CONNECTIONS = 16


def request_bytes(path: str) -> bytes:
    """Return a request as a small client sends it."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n".encode()


class Clients:
    """Connections that each send a request, and then each read the answer."""

    def __init__(self, port: int, path: str) -> None:
        self._request = request_bytes(path)
        self._sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
        for connection in self._sockets:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._size = len(self._first_answer(self._sockets[0]))
        self._buffer = bytearray(65_536)

    def seconds_of(self, requests: int) -> float:
        """Return how long so many requests took, rounded up to one for each connection."""
        began = time.perf_counter()
        for _ in range(-(-requests // CONNECTIONS)):
            self._one_each()
        return time.perf_counter() - began

    def _one_each(self) -> None:
        request, size, buffer = self._request, self._size, self._buffer
        for connection in self._sockets:
            connection.send(request)
        for connection in self._sockets:
            read = connection.recv_into(buffer)
            if not buffer.startswith(b"HTTP/1.1 20"):  # 204 says that it is well, too
                raise ValueError(f"not an answer: {bytes(buffer[:read])!r}")
            while read < size:  # head and body may come one after the other
                read += len(connection.recv(size - read))

    def _first_answer(self, connection: socket.socket) -> bytes:
        connection.send(self._request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += connection.recv(65_536)
        head, _, body = answer.partition(b"\r\n\r\n")
        _, has_body, rest = head.lower().partition(b"content-length:")
        length = int(rest.split()[0]) if has_body else 0
        while len(body) < length:
            part = connection.recv(65_536)
            answer += part
            body += part
        return answer


def _main() -> None:
    clients = Clients(int(sys.argv[1]), sys.argv[2])
    for line in sys.stdin:
        print(clients.seconds_of(int(line)), flush=True)


if __name__ == "__main__":
    _main()
