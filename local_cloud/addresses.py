"""Addresses and TCP ports of this machine: where servers listen, and are reached."""

from __future__ import annotations

import socket
import weakref

LOOPBACK = "127.0.0.1"
EVERYWHERE = "0.0.0.0"  # noqa: S104  (asked for by whoever binds to it: a container does)


class HeldPort:
    """A free port of 127.0.0.1, which nobody else is given as a free one while this object lives.

    Its socket is bound and does not listen: a server that sets SO_REUSEADDR, as most do, can be
    bound beside it, and who asks for any port gets another.
    """

    def __init__(self) -> None:
        held = socket.socket()
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((LOOPBACK, 0))
        self.number = int(held.getsockname()[1])
        weakref.finalize(self, held.close)


def is_taken(port: int, host: str = LOOPBACK) -> bool:
    """Say whether somebody listens on this TCP port of *host*."""
    with socket.socket() as client:
        return client.connect_ex((host, port)) == 0


def reached_at(bind: str) -> str:
    """Return the address at which this machine reaches what listens on *bind*."""
    return LOOPBACK if bind == EVERYWHERE else bind
