"""One attempt outside the driver, and what in-process attempts share with it.

    calling.py  a function, its annotations, and one call of it: stored values in and out
    single.py   `onready execute-single-node`: one envelope, one result record, one exit code
    warm.py     the loop of a warm worker process
    frames.py   what a warm worker and its driver say to each other
    program.py  the arguments and the environment of a shell node
    ending.py   TERM as an exception, so that the user's clean-up runs
    speaking.py how an attempt reports from inside a worker

Rule of this room: neither the scheduler nor the dispatcher nor the graph is known here, and a
worker imports no more than its call needs: start-up time is paid for every node. So this file
imports nothing.
"""

from __future__ import annotations


def main(arguments: list[str]) -> int:
    """`onready execute-single-node`: see `single.py`. The exit code."""
    from onready.engine.worker.single import main as single

    return single(arguments)
