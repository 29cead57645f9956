"""Hosts that are played by one process: a server that speaks SSH, and answers the scripts of a deploy as hosts would.

`python -m tests.rig.played COUNT PUBLIC_KEY`: prints the ports, a line each, then serves until its input ends.
"""

from __future__ import annotations

import base64
import logging
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import paramiko

from deploy.hosts.ssh.channel import BEGIN, script

#: What activate.sh answers to each command.
ANSWERS = {
    "workers": "WORKERS",
    "flip": "FLIPPED",
    "beat": "BEAT",
    "part": "PARTED",
    "alone": "ALONE",
    "hold": "HELD",
    "commit": "COMMITTED",
}
STATE = "setup played\nroles {roles}\ncores 2\ncurrent \nfree 10000000\n"


class Server(paramiko.ServerInterface):  # type: ignore[misc] # paramiko has no types here
    """Lets in the one key, and runs what a script asks for in a thread of its own."""

    def __init__(self, key: str, roles: str) -> None:
        self.key, self.roles = key, roles

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return int(paramiko.AUTH_SUCCESSFUL if key.get_base64() == self.key else paramiko.AUTH_FAILED)

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return int(paramiko.OPEN_SUCCEEDED)

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=play, args=(channel, self.roles), daemon=True).start()
        return True


def play(channel: paramiko.Channel, roles: str) -> None:
    """Answer one script, as `scripts/frame.sh` and the script itself would."""
    with suppress(OSError, EOFError, StopIteration):  # the last, of a shell that was opened ahead in vain
        lines = _lines(channel)
        for _ in range(3):  # the frame, the limit, who asks
            next(lines)
        text = next(lines)
        channel.sendall(BEGIN)
        channel.sendall_stderr(BEGIN)
        script_text = base64.b64decode(text).decode()
        for _ in range(script_text.count("\nIFS= read -r ")):  # as many as the script itself
            next(lines)
        PLAYED[script_text](lines, channel, roles)
        channel.send_exit_status(0)
    channel.close()


def _lines(channel: paramiko.Channel) -> Iterator[bytes]:
    pending = b""
    while piece := channel.recv(32768):
        *whole, pending = (pending + piece).split(b"\n")
        yield from whole


def _lock(lines: Iterator[bytes], channel: paramiko.Channel, roles: str) -> None:
    channel.sendall(b"HELD\n")
    _read(lines, channel, roles)


def _look(lines: Iterator[bytes], channel: paramiko.Channel, roles: str) -> None:
    channel.sendall(STATE.format(roles=roles).encode())


def _read(lines: Iterator[bytes], channel: paramiko.Channel, roles: str) -> None:
    for _ in lines:
        pass


def _activate(lines: Iterator[bytes], channel: paramiko.Channel, roles: str) -> None:
    channel.sendall(b"= STARTED\n")
    for line in lines:
        word = line.decode().partition(" ")[0]
        if word != ".":
            channel.sendall(f"= {ANSWERS.get(word, 'BACK')}\n".encode())
        if word == "commit":
            channel.sendall(b"= DONE\n")
            return


Play = Callable[[Iterator[bytes], paramiko.Channel, str], None]
PLAYED: dict[str, Play] = {
    script("lock.sh"): _lock,
    script("look.sh"): _look,
    script("ship.sh"): _read,
    script("migrate.sh"): _read,
    script("record.sh"): _read,
    script("activate.sh"): _activate,
}


def serve(server: socket.socket, host_key: paramiko.PKey, key: str, roles: str) -> None:
    """Accept connections for ever."""
    while True:
        connection, _ = server.accept()
        transport = paramiko.Transport(connection)
        transport.add_server_key(host_key)
        with suppress(paramiko.SSHException, EOFError, OSError):
            transport.start_server(event=threading.Event(), server=Server(key, roles))


def main(count: int, key: str) -> None:
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # a client that has ended is no error
    host_key = paramiko.ECDSAKey.generate()
    for number in range(count):
        server = socket.create_server(("127.0.0.1", 0), backlog=64)
        roles = "worker beat" if number == 0 else "web"
        threading.Thread(target=serve, args=(server, host_key, key, roles), daemon=True).start()
        print(server.getsockname()[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2].split()[1])
