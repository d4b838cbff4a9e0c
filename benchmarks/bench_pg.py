"""How fast is the whole engine on Postgres, as it is installed, beside the floor on that server?

Two parts: start to finish, as ``whole_engine`` says, with what a step costs the server; and how
soon another process is heard.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from benchmarks import waking_pg
from benchmarks.ground_pg import pg_ground
from benchmarks.report import Row, emit, machine, table
from benchmarks.waking_pg import SENDINGS, Sending
from benchmarks.whole_engine import CASES, REPEATS, Case, compare


async def measure_all(
    cases: Sequence[Case],
    sendings: Sequence[Sending],
    repeats: int,
) -> list[Row]:
    """All parts, each printed as it comes and as a table at its end."""
    async with pg_ground() as ground:
        on = machine(postgres=await ground.version())
        whole = []
        for case in cases:
            whole.append(await compare(ground, case, repeats))
            emit("pg", whole[-1])
        table(f"Postgres, start to finish, median of {repeats}, {on}", whole)
        waking = []
        for sending in sendings:
            waking.append(await waking_pg.compare(ground.dsn, sending))
            emit("pg_waking", waking[-1])
        table("Postgres, from a start in one process to the handler's call in another", waking)
    return [*whole, *waking]


def main(
    cases: Sequence[Case] = CASES,
    sendings: Sequence[Sending] = SENDINGS,
    repeats: int = REPEATS,
) -> list[Row]:
    return asyncio.run(measure_all(cases, sendings, repeats))


if __name__ == "__main__":
    main()
