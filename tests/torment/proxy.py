"""A proxy before a Postgres server that cuts connections at the worst moments.

It understands just enough of the protocol to know what a client asks for: all messages up to a
``Sync`` are one request, named by the function of ours that it calls, or else by its first word.
A verb of the store is one request and commits by itself, so what is cut off before or after a
request is cut off before or after a COMMIT. It runs in a thread, with an event loop of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections import Counter
from enum import StrEnum
from typing import Self
from urllib.parse import urlsplit

import attrs

GATHERED = frozenset(b"PBDEC")  # Parse, Bind, Describe, Execute, Close: no answer before a Sync
PARSE, BIND, QUERY, READY = b"PBQZ"
SSL_REQUEST = (8).to_bytes(4, "big") + (80_877_103).to_bytes(4, "big")
NO_SSL = b"N"
OUR_FUNCTION = re.compile(rb'"\.(\w+?)_v\d+\(')
FIRST_WORD = re.compile(rb"\s*(\w*)")
CHUNK = 2**16
ARRIVES_S = 0.02
"""In which bytes have surely been read at the other end of the loopback device."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Fault(StrEnum):
    """What becomes of a request, in the order of how far it gets."""

    BEFORE = "before"
    """Nothing of it arrives, and the connection is cut."""
    HALFWAY = "halfway"
    """All but its ``Sync`` arrives, then the connection is cut: executed, and rolled back."""
    LATE = "late"
    """The client is cut off, and acts again; then the request arrives all the same."""
    AFTER = "after"
    """It is executed and committed; the client is cut off before it hears of it."""
    DELAY = "delay"
    """It arrives later, and is answered; nothing is cut."""


@attrs.frozen
class Armed:
    """A fault that waits for a request whose name begins so."""

    fault: Fault
    verb: str
    pause_s: float


class Frames:
    """Puts one direction's bytes together to whole messages."""

    def __init__(self, *, typed: bool) -> None:
        self._rest = b""
        self._typed = typed  # a client's first messages have no type

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that these bytes complete."""
        self._rest += data
        found: list[bytes] = []
        while len(self._rest) >= self._typed + 4:
            size = self._typed + int.from_bytes(self._rest[self._typed : self._typed + 4], "big")
            if len(self._rest) < size:
                break
            found.append(self._rest[:size])
            self._rest = self._rest[size:]
            self._typed = self._typed or found[-1] != SSL_REQUEST
        return found


class Line:
    """One client's connection through the proxy; over when one of its directions is."""

    def __init__(self, proxy: Proxy, client: Streams, server: Streams) -> None:
        self._proxy = proxy
        self._from_client, self._to_client = client
        self._from_server, self._to_server = server
        self._statements: dict[bytes, bytes] = {}
        self._deaf = False  # the client is to hear no answer any more
        self._answered = asyncio.Event()  # the one that it does not hear

    async def requests(self) -> None:
        """Client to server, until a fault cuts it."""
        frames, request = Frames(typed=False), list[bytes]()
        while data := await self._from_client.read(CHUNK):
            for frame in frames.feed(data):
                request.append(frame)
                if frame[0] in GATHERED:
                    continue
                await self._proxy.light.wait()
                if frame == SSL_REQUEST:
                    self._to_client.write(NO_SSL)
                elif not await self._passed_on(request):
                    return
                request = []

    async def _passed_on(self, request: list[bytes]) -> bool:
        """Send it on; false when the connection is to be cut now."""
        armed = self._proxy.fault_for(self._name(request))
        fault = None if armed is None else armed.fault
        whole = b"".join(request)
        if fault is Fault.BEFORE:
            return False
        if fault is Fault.HALFWAY:
            self._to_server.write(whole[: -len(request[-1])])
            await asyncio.sleep(ARRIVES_S)
            return False
        self._deaf = fault in (Fault.LATE, Fault.AFTER)
        if fault is Fault.LATE:
            self._to_client.transport.abort()
        if armed is not None and fault is not Fault.AFTER:
            await asyncio.sleep(armed.pause_s)
        self._to_server.write(whole)
        await self._to_server.drain()
        if self._deaf:
            await self._answered.wait()
            self._proxy.unheard += 1
        return not self._deaf

    def _name(self, request: list[bytes]) -> str:
        """What it asks for; nothing, if it only makes ready to ask."""
        sql = b""
        for frame in request:
            texts = frame[5:].split(b"\0", 2)
            if frame[0] == PARSE:
                self._statements[texts[0]] = texts[1]
            elif frame[0] == BIND:
                sql = self._statements[texts[1]]
            elif frame[0] == QUERY:
                sql = texts[0]
        found = OUR_FUNCTION.search(sql) or FIRST_WORD.match(sql)
        return "" if found is None else found[1].decode()

    async def answers(self) -> None:
        """Server to client."""
        frames = Frames(typed=True)
        while data := await self._from_server.read(CHUNK):
            answers = frames.feed(data)
            if not self._deaf:
                await self._proxy.light.wait()
                self._to_client.write(b"".join(answers))
                await self._to_client.drain()
            elif any(answer[0] == READY for answer in answers):
                self._answered.set()

    async def serve(self) -> None:
        """Both directions, until one is over; then nobody says goodbye."""
        tasks = [asyncio.ensure_future(way) for way in (self.requests(), self.answers())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._to_client.transport.abort()
            self._to_server.transport.abort()


class Proxy:
    """Takes connections to the server with this DSN, at ``dsn``, while it is entered."""

    def __init__(self, dsn: str) -> None:
        self.fired: Counter[Fault] = Counter()
        self.unheard = 0
        """Answers that the server gave and no client heard."""
        self.hit: Counter[str] = Counter()
        """Faults by the name of what they hit."""
        self._server = urlsplit(dsn)
        self._port = 0
        self._armed: list[Armed] = []
        self._lines: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="proxy")
        self._listening = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        self._listening.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    # --- called from other threads -------------------------------------------------------------

    @property
    def dsn(self) -> str:
        """The server's DSN, by way of this proxy."""
        netloc = f"{self._server.username}@127.0.0.1:{self._port}"
        return self._server._replace(netloc=netloc).geturl()

    def arm(self, fault: Fault, verb: str = "", *, pause_s: float = 0.0) -> None:
        """Let the next request whose name begins with ``verb`` meet this fault; ``pause_s`` is by
        how much ``LATE`` is late, and ``DELAY`` delayed."""
        self._armed.append(Armed(fault, verb, pause_s))

    @property
    def awaited(self) -> list[str]:
        """Names of requests that faults wait for."""
        return [armed.verb for armed in self._armed]

    def go_dark(self) -> None:
        """Let nothing through, and tell nobody, until ``go_light``."""
        self._loop.call_soon_threadsafe(self.light.clear)

    def go_light(self) -> None:
        """Let everything through that was held up, and what comes."""
        self._loop.call_soon_threadsafe(self.light.set)

    # --- in its own thread ---------------------------------------------------------------------

    def fault_for(self, name: str) -> Armed | None:
        """The fault that this request meets."""
        for armed in self._armed:
            if name and name.startswith(armed.verb):
                self._armed.remove(armed)
                self.fired[armed.fault] += 1
                self.hit[name] += 1
                return armed
        return None

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self.light = asyncio.Event()
        self.light.set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        self._listening.set()
        await self._stop.wait()
        server.close()
        for line in self._lines:
            line.cancel()
        await asyncio.gather(*self._lines, return_exceptions=True)
        for _ in range(3):  # a transport that is aborted closes its socket in a later turn
            await asyncio.sleep(0)

    async def _connected(self) -> Streams:
        """A connection to the server; who is cancelled meanwhile leaves none behind."""
        host, port = self._server.hostname, self._server.port
        connecting = asyncio.ensure_future(asyncio.open_connection(host, port))
        try:
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            _, writer = await connecting
            writer.transport.abort()
            raise

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._lines.add(task)
        try:
            with contextlib.suppress(OSError):
                await Line(self, (reader, writer), await self._connected()).serve()
        finally:
            writer.transport.abort()
            self._lines.discard(task)
