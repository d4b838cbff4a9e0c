"""Transact: a handler inside the very transaction that commits its entry.

The run's other commits gather meanwhile: the transaction holds its fence, so a group commit of
the run would wait for it, and everything else in that batch too. Rules:

1. A success is advanced, and its transition committed, inside the transaction: the user's rows
   and the entry land together. Anything else rolls back and takes the normal road.
2. The transaction is limited to a third of the lease; on SQLite it holds the only writer.
3. After an unknown outcome the store is asked whether the entry landed; never sent again.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack

from ...errors import DurableError, LeaseLostError, StoreUnavailableError
from ...kernel.event import AttemptSucceeded
from ...kernel.outcome import Transition
from ...kernel.reports import Report
from ...store import Commit, CommitVerdict, StoreTransaction
from ..mapping import commit_of
from .attempts import Call
from .runner import Runner

log = logging.getLogger("durable.worker")


async def transact(runner: Runner, call: Call) -> Report | None:
    """Make the call; gives what is to be reported, or None: it is committed, or the run is lost.

    Raises what the handler raises.
    """
    await runner.take_turn()
    try:
        report, transition = await _transact(runner, call)
    except BaseException:
        runner.end_turn()
        raise
    runner.end_turn(transition)
    return report


async def _transact(runner: Runner, call: Call) -> tuple[Report | None, Transition | None]:
    """What is to be reported, and the transition that was committed; neither: the run is lost."""
    verdict: CommitVerdict | None = None
    async with AsyncExitStack() as stack:
        try:
            transaction = await _begin(runner, stack)
        except (LeaseLostError, StoreUnavailableError) as error:
            runner.lose(type(error).__name__)
            return None, None
        report = await call.invoke(conn=transaction.conn)
        if not isinstance(report, AttemptSucceeded):
            return report, None
        try:
            await transaction.check()  # what it raises of the handler's doing fails the attempt
        except StoreUnavailableError as error:
            runner.lose(type(error).__name__)
            return None, None
        if runner.closed or not call.settle():
            return None, None
        runner.take_report(report)
        transition = runner.decide(runner.surface.clock.now_ms())
        if transition is None:
            return None, None
        commit = commit_of(transition, runner, runner.epoch, runner.seen)
        try:
            verdict = await transaction.commit(commit)
        except StoreUnavailableError as error:
            if error.outcome_unknown:
                await stack.aclose()
                verdict = await _settled(runner, commit)
        except DurableError as error:
            log.error("the transaction of run %s could not be committed: %s", runner.run_id, error)
    if verdict is CommitVerdict.APPLIED:
        return None, transition
    runner.lose("its transaction was not committed")
    return None, None


async def _begin(runner: Runner, stack: AsyncExitStack) -> StoreTransaction:
    """An open transaction that holds the fence. Raises when the store stays out of reach."""
    surface = runner.surface
    backoff = surface.backoff()
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + surface.patience_s
    while True:
        try:
            return await stack.enter_async_context(surface.store.transaction(runner.lease))
        except StoreUnavailableError:
            if loop.time() >= give_up_at:
                raise
        await asyncio.sleep(backoff.next_s())


async def _settled(runner: Runner, commit: Commit) -> CommitVerdict | None:
    surface = runner.surface
    backoff = surface.backoff()
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + surface.patience_s
    while loop.time() < give_up_at:
        try:
            return (await surface.store.settled([commit]))[0]
        except StoreUnavailableError:
            await asyncio.sleep(backoff.next_s())
    return None
