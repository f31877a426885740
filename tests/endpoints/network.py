"""What tests of downloads need: a resolver of their own, and a recorder at the connect hook that lets nothing out."""

from __future__ import annotations

import ipaddress
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult


class Names(AbstractResolver):
    """Answers from a table. A name with several lists of addresses gets the next one each time, the last for ever."""

    def __init__(self, **table: list[list[str]]) -> None:
        self.table = {name.replace("_", "."): list(answers) for name, answers in table.items()}
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        answers = self.table.get(host)
        if not answers:
            raise OSError(None, "no such name")
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [self._result(host, port, address) for address in addresses]

    async def close(self) -> None:
        pass

    def _result(self, host: str, port: int, address: str) -> ResolveResult:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return ResolveResult(
            hostname=host, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST
        )


@dataclass
class Recorder:
    """Addresses that this process connected to, or was about to: anything but loopback is stopped right there."""

    is_watching: bool = False
    tried: list[tuple[str, int]] = field(default_factory=list)
    stopped: list[tuple[str, int]] = field(default_factory=list)
    looked_up: list[str] = field(default_factory=list)

    def __call__(self, event: str, arguments: tuple) -> None:
        if not self.is_watching:
            return
        if event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
            address = arguments[1][:2]
            self.tried.append(address)
            if not is_loopback(address[0]):
                self.stopped.append(address)
                raise PermissionError(f"a test was about to connect to {address[0]}")
        if event == "socket.getaddrinfo" and not is_address(arguments[0]):
            self.looked_up.append(str(arguments[0]))
            raise PermissionError(f"a test was about to look up {arguments[0]}")

    @contextmanager
    def watch(self) -> Iterator[Recorder]:
        self.tried.clear()
        self.stopped.clear()
        self.looked_up.clear()
        self.is_watching = True
        try:
            yield self
        finally:
            self.is_watching = False


def install_recorder() -> Recorder:
    """A recorder at Python's own hook for connects, which every library goes through; it stays for the process."""
    recorder = Recorder()
    sys.addaudithook(recorder)
    return recorder


def is_address(host: object) -> bool:
    try:
        ipaddress.ip_address(str(host))
    except ValueError:
        return host in (None, "", b"")
    return True


def is_loopback(host: str) -> bool:
    return is_address(host) and ipaddress.ip_address(host).is_loopback


@asynccontextmanager
async def serving(handler: object) -> AsyncIterator[int]:
    """A server on 127.0.0.1 that answers every path with the handler; gives its port."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield site._server.sockets[0].getsockname()[1]
    finally:
        await runner.cleanup()


class Cable:
    """Connections to a port of this machine, until it is cut: then nothing passes, and nobody is told. A context manager."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._whole = threading.Event()
        self._sockets: list[socket.socket] = [self._listener]
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut(self) -> None:
        self._whole.clear()

    def mend(self) -> None:
        self._whole.set()

    def __enter__(self) -> Cable:
        self.mend()
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._sockets:
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                self._sockets += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(1 << 16):
                self._whole.wait()
                other.sendall(data)
        with suppress(OSError):
            other.shutdown(socket.SHUT_WR)
