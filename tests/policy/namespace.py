"""A network of our own in which every address there is leads to this machine, and every packet is seen.

So what must not be reached is there and answers: a guard with a hole is a connection, not an error. The files of the
resolver are ours as well.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp"}
# linux/if_ether.h, asm-generic/socket.h, linux/sockios.h, linux/if.h, linux/rtnetlink.h
_ALL_PROTOCOLS, _IPV4, _IPV6 = 3, 0x0800, 0x86DD
_SO_RCVBUFFORCE, _OUTGOING = 33, 4
_SIOCSIFFLAGS, _UP_AND_RUNNING = 0x8914, 0x41
_NEW_ROUTE, _REQUEST_CREATE_ACK = 24, 0x1 | 0x400 | 0x4
_LOCAL_TABLE, _STATIC, _SCOPE_HOST, _TYPE_LOCAL, _OUT_INTERFACE = 255, 4, 254, 2, 4


_UNSHARE = ["unshare", "--net", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]


def why_not() -> str:
    """Why this machine lets nobody have such a network; empty where it does."""
    if shutil.which("unshare") is None or shutil.which("mount") is None:
        return "unshare and mount (util-linux) are not installed"
    tried = subprocess.run([*_UNSHARE, "true"], capture_output=True, text=True, check=False)
    return "" if tried.returncode == 0 else f"no network namespace can be had: {tried.stderr.strip()}"


def command(module: str, *arguments: str) -> list[str]:
    """``python -m module`` within such a namespace, which it has to :func:`furnish` itself."""
    return [*_UNSHARE, sys.executable, "-m", module, *arguments]


def furnish(folder: Path, *, nameserver: str, hosts: Sequence[str] = ()) -> None:
    """Inside: all addresses are ours, and the resolver's files say what they are given."""
    _raise_loopback()
    for family in (socket.AF_INET, socket.AF_INET6):
        _own_everything(family)
    for name, lines in (("resolv.conf", [f"nameserver {nameserver}"]), ("hosts", hosts)):
        file = folder / name
        file.write_text("".join(f"{line}\n" for line in lines))
        subprocess.run(["mount", "--bind", str(file), f"/etc/{name}"], check=True, capture_output=True)


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _UP_AND_RUNNING))


def _own_everything(family: int) -> None:
    """``ip route add local default dev lo``, without needing ip."""
    route = struct.pack("=8BI", family, 0, 0, 0, _LOCAL_TABLE, _STATIC, _SCOPE_HOST, _TYPE_LOCAL, 0)
    route += struct.pack("=HHI", 8, _OUT_INTERFACE, socket.if_nametoindex("lo"))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as kernel:
        kernel.bind((0, 0))
        kernel.send(struct.pack("=IHHII", 16 + len(route), _NEW_ROUTE, _REQUEST_CREATE_ACK, 1, 0) + route)
        refused = -struct.unpack_from("=i", kernel.recv(4096), 16)[0]
    if refused:
        raise OSError(refused, os.strerror(refused))


class End(NamedTuple):
    """One end of a packet's way. ``port`` is 0 where the protocol has none."""

    address: str
    protocol: str
    port: int


_MARK = End("203.0.113.1", "udp", 9)


class Watch:
    """Counts the packets of the whole namespace by where they go, but for loopback and what is said to and by ``but``."""

    def __init__(self, *, but: Sequence[str] = ()) -> None:
        self._seen: Counter[End] = Counter()
        self._but = frozenset(but)
        self._marked = threading.Semaphore(0)
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL_PROTOCOLS))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 64 << 20)
        threading.Thread(target=self._run, daemon=True).start()

    def take(self) -> Counter[End]:
        """What was sent since the last time."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as marker:
            marker.sendto(b"", (_MARK.address, _MARK.port))
        if not self._marked.acquire(timeout=60):  # what was sent before the mark is counted before it
            raise TimeoutError("the watch saw nothing of a packet of its own")
        taken, self._seen = self._seen, Counter()
        return taken

    def _run(self) -> None:
        while True:
            packet, (_, protocol, kind, *_) = self._socket.recvfrom(65_536)
            if kind == _OUTGOING and (ends := ends_of(protocol, packet)) is not None:
                self._count(*ends)

    def _count(self, source: End, target: End) -> None:
        if target == _MARK:
            self._marked.release()
        elif not (self._left_out(source) or self._left_out(target) or is_loopback(target.address)):
            self._seen[target] += 1

    def _left_out(self, end: End) -> bool:
        """Also what the kernel says of the mark, that nobody listens there."""
        return end.address in self._but or end.address == _MARK.address


def is_loopback(address: str) -> bool:
    return ip_address(address).is_loopback


def ends_of(protocol: int, packet: bytes) -> tuple[End, End] | None:
    """Source and target of an IP packet."""
    if protocol == _IPV4:
        header, kind, source, target = (packet[0] & 15) * 4, packet[9], packet[12:16], packet[16:20]
    elif protocol == _IPV6:
        header, kind, source, target = 40, packet[6], packet[8:24], packet[24:40]
    else:
        return None
    name = _PROTOCOLS.get(kind, str(kind))
    ports = packet[header : header + 4] if name in ("tcp", "udp") else bytes(4)
    return (
        End(str(ip_address(source)), name, int.from_bytes(ports[:2], "big")),
        End(str(ip_address(target)), name, int.from_bytes(ports[2:], "big")),
    )
