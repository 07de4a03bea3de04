"""The dispatcher: facts in, append, commands out.

    core.py     one run: the inbox, the turn, the commands
    journal.py  ordered write-behind to the run log, the flush barrier, the durable tail
    inline.py   the elastic pool of worker coroutines for in-process nodes
    bulk.py     feeding calls to thread pools
    remote.py   one coroutine per live attempt of every other backend
    lanes.py    limits: who may start now, and who waits for what
    flow.py     values between nodes: bindings, arguments, results
    tasks.py    the live side of a plan's tasks, prepared once per run
    report.py   what a running attempt says: start, progress, output
    loop.py     the little that asyncio and trio do differently

No concrete backend and no concrete store is known here.
"""

from __future__ import annotations
