"""The ledger: a process of its own that handlers tell what they do, so that it outlives them.

One line of JSON in, one line out, over a loopback socket. A record is acknowledged before the
handler goes on, so nothing that a handler did is ever missing. Run as a module it is the
server; the rest is the two sides that talk to it.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections import Counter
from typing import Any


class LedgerServer:
    """Keeps records in the order in which they came."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.begins: Counter[tuple[str, str]] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one client until it goes away, however that happens."""
        try:
            while line := await reader.readline():
                writer.write(json.dumps(self.answer(json.loads(line))).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            pass  # a client that was killed, perhaps in the middle of a line
        finally:
            writer.close()

    def answer(self, asked: dict[str, Any]) -> Any:
        """Note a record, or tell what has been noted."""
        if asked["op"] == "dump":
            return self.records
        if asked["op"] == "count":
            return sum(1 for record in self.records if record["op"] == "begin")
        self.records.append(asked)
        unit = (asked["run"], asked.get("unit", ""))
        if asked["op"] == "begin":
            self.begins[unit] += 1
        return self.begins[unit]


async def main() -> None:
    """Serve until the standard input is closed; the port is the first line of output."""
    ledger = LedgerServer()
    server = await asyncio.start_server(ledger.serve, "127.0.0.1", 0, limit=2**24)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


class LedgerWriter:
    """A worker's connection: one for all its handlers, which take turns."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._turn = asyncio.Lock()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._asking: set[asyncio.Task[int]] = set()

    async def note(self, **record: Any) -> int:
        """Record something; answers how often this unit has begun. Whoever waits for the answer
        may be cancelled: it is recorded all the same."""
        return await asyncio.shield(self.note_soon(**record))

    def note_soon(self, **record: Any) -> asyncio.Task[int]:
        """Record something, with the time that it is now unless another is given."""
        asking = asyncio.ensure_future(self._ask({"at": time.monotonic(), **record}))
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)
        return asking

    async def _ask(self, record: dict[str, Any]) -> int:
        async with self._turn:
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            reader, writer = self._streams
            writer.write(json.dumps(record).encode() + b"\n")
            await writer.drain()
            return int(await reader.readline())

    async def close(self) -> None:
        """Hang up, when everything is recorded."""
        if self._asking:
            await asyncio.wait(self._asking)
        if self._streams is not None:
            self._streams[1].close()
            await self._streams[1].wait_closed()


class LedgerReader:
    """The test's connection, blocking."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._file = self._socket.makefile("rwb")

    def _ask(self, op: str) -> Any:
        self._file.write(json.dumps({"op": op}).encode() + b"\n")
        self._file.flush()
        return json.loads(self._file.readline())

    def records(self) -> list[dict[str, Any]]:
        """Everything so far, in the order in which it came."""
        found: list[dict[str, Any]] = self._ask("dump")
        return found

    def begins(self) -> int:
        """How many attempts have begun so far."""
        return int(self._ask("count"))

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self._socket.close()


if __name__ == "__main__":
    asyncio.run(main())
