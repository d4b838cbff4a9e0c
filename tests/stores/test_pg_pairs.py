"""Every verb against every verb on one run: who waits for whom, and that some order explains it.

The first session's verb has happened and is held open; then the second session's verb comes. Where
the table says so it waits, which the server's lock table proves, and is through once the first
session is; everywhere else it is through while the first is still open. Then the first commits,
or rolls back. What both were answered, and what others find afterwards, must be what a
``MemoryStore`` says of the two verbs one after the other.

Why the table is as it is (the rules stand at the head of ``0002_functions.sql``):

- Whoever would change a run that it owns, or thinks it owns, waits for the run's lease row:
  *renew*, *commit* and *end* wait for everything that holds it.
- A claim, and with it a takeover, passes over rows in other hands; so does retention.
- A message never waits: it is posted to a run in other hands. So does the end of a child, which is
  a commit of another run with a message to this one.
- A start waits for the start, or the removal, of a run of the same id, and so does the retry of
  an ended run wait for its removal: it could not know what to answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
import pytest_asyncio
from tests.postgres_kit import MAJORS
from tests.stores import two_sessions
from tests.stores.meetings import VERBS, Story, Verb, aftermath, arrange, serial_stories
from tests.stores.two_sessions import PATIENCE_S, PLACES, Arena

from durable_core.testing.postgres import NO_POSTGRES

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(not MAJORS, reason=NO_POSTGRES),
    pytest.mark.asyncio(loop_scope="module"),
]

TABLE = """
              claim  renew  commit end    retry  signal cancel child_end takeover start retention
    claim     due    due!   due!   due!   due    due    due    due       due      due   due
    renew     due    held!  held!  held!  held   held   held   held      held     held  held
    commit    due    held!  held!  held!  held   held   held   held      held     held  held
    end       due    held!  held!  held!  held   held   held   held      held     held  held
    retry     over   held!  held!  held!  over   over   over   over      held     over  over
    signal    due    held!  held!  held!  over   idle   idle   idle      held     none  over
    cancel    due    held!  held!  held!  over   idle   idle   idle      held     none  over
    child_end due    held!  held!  held!  over   idle   idle   idle      held     idle  over
    takeover  held   held!  held!  held!  held   held   held   held      held     held  held
    start     none   held   held   held   over   none   none   idle      held     none! over
    retention over   over   over   over   over!  over   over   over      over     over! over
"""
"""The first verb's row, the second verb's column: the state of the run (``meetings.arrange``) and,
where the second waits for the first, an exclamation mark."""


@attrs.frozen
class Meeting:
    """One cell of the table."""

    first: Verb
    second: Verb
    state: str
    waits: bool

    def __str__(self) -> str:
        return f"{self.first.name}-then-{self.second.name}"


def meetings() -> list[Meeting]:
    """The table, cell by cell."""
    seconds, *rows = [line.split() for line in TABLE.strip().splitlines()]
    return [
        Meeting(VERBS[first], VERBS[second], cell.removesuffix("!"), cell.endswith("!"))
        for first, *cells in rows
        for second, cell in zip(seconds, cells, strict=True)
    ]


MEETINGS = meetings()


@pytest_asyncio.fixture(params=PLACES, scope="module", loop_scope="module")
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Arena]:
    """One arena for all."""
    async with two_sessions.arena(**request.param) as arena:
        yield arena


@pytest_asyncio.fixture(loop_scope="module")
async def arena(place: Arena) -> Arena:
    """The arena, empty."""
    await place.clear()
    return place


async def test_all_pairs_are_in_the_table() -> None:
    pairs = {(meeting.first.name, meeting.second.name) for meeting in MEETINGS}
    assert pairs == {(first, second) for first in VERBS for second in VERBS}


@pytest.mark.parametrize("ending", ["COMMIT", "ROLLBACK"])
@pytest.mark.parametrize("meeting", MEETINGS, ids=str)
async def test_one_waits_or_goes_past_and_an_order_explains_it(
    arena: Arena, meeting: Meeting, ending: str
) -> None:
    await arrange(arena.store, meeting.state)
    async with asyncio.timeout(PATIENCE_S), arena.held_open() as first:
        arena.clock.forward(meeting.first.later_ms)
        said = await meeting.first.do(first, "first")
        arena.clock.forward(meeting.second.later_ms)
        coming = asyncio.create_task(_do(meeting.second, arena))
        waits = await arena.waits(coming, first.pid)
        await first.conn.execute(ending)
        answer = await coming
    assert waits is meeting.waits
    kept = ending == "COMMIT"
    story = Story(said if kept else None, answer, await aftermath(arena.store, arena.clock))
    await arena.check()
    assert story in await serial_stories(
        meeting.state, meeting.first, meeting.second, waited=waits, kept=kept
    )


async def _do(verb: Verb, arena: Arena) -> Any:
    return await verb.do(arena.store, "second")
