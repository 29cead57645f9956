"""A client of a websocket (RFC 6455), as small as tests need it."""

from __future__ import annotations

import base64
import os
import socket
import struct
from dataclasses import dataclass

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


@dataclass
class WebSocket:
    """An open one."""

    connection: socket.socket

    @classmethod
    def connect(cls, port: int, host: str = "localhost", path: str = "/echo/", seconds: float = 20) -> WebSocket:
        """Raises `ConnectionError` if the answer is not the switch of the protocol."""
        connection = socket.create_connection(("127.0.0.1", port), seconds)
        key = base64.b64encode(os.urandom(16)).decode()
        headers = [
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
        ]
        connection.sendall("\r\n".join([f"GET {path} HTTP/1.1", f"Host: {host}", *headers, "", ""]).encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            piece = connection.recv(1)
            if not piece:
                break
            answer += piece
        if b" 101 " not in answer.partition(b"\r\n")[0]:
            raise ConnectionError(answer.decode(errors="replace"))
        return cls(connection)

    def send(self, text: str) -> None:
        """A short text in one frame, masked as a client must."""
        self._frame(TEXT, text.encode())

    def receive(self) -> str | int:
        """The next text, or the code of the close; 1006 if the connection ends without one."""
        while True:
            head = self._read(2)
            if len(head) < 2:
                return 1006
            data = self._read(head[1] & 0x7F)
            kind = head[0] & 0x0F
            if kind == CLOSE:
                return int(struct.unpack("!H", data[:2])[0]) if len(data) >= 2 else 1005
            if kind != PING:
                return data.decode()
            self._frame(PONG, data)

    def _frame(self, kind: int, data: bytes) -> None:
        mask = os.urandom(4)
        assert len(data) < 126
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
        self.connection.sendall(bytes([0x80 | kind, 0x80 | len(data)]) + mask + masked)

    def _read(self, number: int) -> bytes:
        found = b""
        while len(found) < number:
            try:
                piece = self.connection.recv(number - len(found))
            except ConnectionError:
                return b""
            if not piece:
                return b""
            found += piece
        return found
