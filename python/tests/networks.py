"""A network between a client and a server that can be slow, silent or broken, for all who connect through it."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator

from conftest import free_port

CHUNK = 16 << 10


class Network:
    """What goes through it, and how: changed while it is in use."""

    def __init__(self, port: int, to: int) -> None:
        self.port, self.to = port, to
        # How long each piece of an answer waits, whether nothing comes through at all, and after how many bytes of answers all connections are reset.
        self.delay, self.is_silent, self.reset_after = 0.0, False, 0
        self.answered = 0
        self.listener = socket.create_server(("127.0.0.1", port))
        self.ends: list[socket.socket] = []
        self.lock = threading.Lock()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.to))
            with self.lock:
                self.ends += [client, server]
            threading.Thread(target=self.carry, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self.carry, args=(server, client, True), daemon=True).start()

    def carry(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                if is_answer:
                    time.sleep(self.delay)
                    self.answered += len(data)
                    if self.reset_after and self.answered > self.reset_after:
                        self.reset()
                        return
                while self.is_silent:
                    time.sleep(0.05)
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.close()

    def reset(self) -> None:
        """Breaks all connections at once, without a farewell."""
        with self.lock:
            ends, self.ends = self.ends, []
        for end in ends:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RD)
                end.close()

    def close(self) -> None:
        self.is_silent = False
        self.listener.close()
        self.reset()


@contextlib.contextmanager
def network(to: int) -> Iterator[Network]:
    """A network to a port of this machine."""
    found = Network(free_port(), to)
    try:
        yield found
    finally:
        found.close()
