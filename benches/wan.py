"""Network namespaces behind links that are as slow as one wants: packets of two TUN devices, held back and counted.

`tc netem` would do the same where the kernel has it. It takes the right to make devices and namespaces: `missing()` says what is not there.
"""

import collections
import contextlib
import ctypes
import fcntl
import multiprocessing
import os
import select
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
# A large packet costs the bridge as much as a small one.
MTU = 9000


def missing() -> str | None:
    """Why no links can be made here, if none can."""
    if not shutil.which("ip"):
        return "the command `ip` (iproute2) is not there"
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError as error:
        return f"/dev/net/tun can't be opened ({error.strerror}): it takes CAP_NET_ADMIN"
    made = subprocess.run(["ip", "netns", "add", "lacus-probe"], capture_output=True, text=True, check=False)
    subprocess.run(["ip", "netns", "del", "lacus-probe"], capture_output=True, check=False)
    return f"no network namespace can be made: {made.stderr.strip()}" if made.returncode else None


def device(name: str) -> int:
    """A TUN device, which lives as long as its descriptor."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    return descriptor


@dataclass
class Link:
    """A namespace, its address, and what has gone over its link."""

    namespace: str
    address: str
    counts: "ctypes.Array[ctypes.c_ulong]"

    def bytes(self) -> tuple[int, int]:
        """The bytes of packets to the namespace and from it."""
        return self.counts[0], self.counts[1]


def forward(near: int, far: int, delay: float, rate: float, counts: "ctypes.Array[ctypes.c_ulong]") -> None:
    """Hands packets on, each `delay` seconds late and no more than `rate` bytes a second each way."""
    ways = [(near, far, collections.deque(), 0), (far, near, collections.deque(), 1)]
    free = [0.0, 0.0]
    while True:
        now = time.monotonic()
        due = [queue[0][0] for _, _, queue, _ in ways if queue]
        wait = max(0.0, min(due) - now) if due else 1.0
        ready, _, _ = select.select([near, far], [], [], wait)
        now = time.monotonic()
        for source, target, queue, way in ways:
            while source in ready:
                try:
                    packet = os.read(source, MTU + 100)
                except BlockingIOError:
                    break
                counts[way] += len(packet)
                free[way] = max(now, free[way]) + len(packet) / rate
                queue.append((free[way] + delay, packet))
            while queue and queue[0][0] <= now:
                with contextlib.suppress(BlockingIOError, OSError):
                    os.write(target, queue.popleft()[1])


@contextlib.contextmanager
def link(number: int, round_trip: float, rate: float = 1.25e9) -> Iterator[Link]:
    """A namespace behind a link with a round trip of so many seconds, and so many bytes a second."""

    def ip(*words: str, inside: bool = False) -> None:
        within = ["ip", "netns", "exec", namespace] if inside else []
        subprocess.run([*within, "ip", *words], check=True, capture_output=True)

    namespace, here, there = f"lacus{number}", f"10.77.{number}.1", f"10.77.{number}.2"
    outer, inner = f"lacus{number}h", f"lacus{number}s"
    subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)
    ip("netns", "add", namespace)
    near, far = device(outer), device(inner)
    counts = multiprocessing.get_context("fork").Array(ctypes.c_ulong, 2, lock=False)
    try:
        ip("link", "set", inner, "netns", namespace)
        ip("addr", "add", here, "peer", there, "dev", outer)
        ip("link", "set", outer, "mtu", str(MTU), "up")
        ip("addr", "add", there, "peer", here, "dev", inner, inside=True)
        ip("link", "set", inner, "mtu", str(MTU), "up", inside=True)
        ip("link", "set", "lo", "up", inside=True)
        bridge = multiprocessing.get_context("fork").Process(target=forward, args=(near, far, round_trip / 2, rate, counts), daemon=True)
        bridge.start()
        try:
            yield Link(namespace, there, counts)
        finally:
            bridge.kill()
            bridge.join()
    finally:
        os.close(near)
        os.close(far)
        subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)
