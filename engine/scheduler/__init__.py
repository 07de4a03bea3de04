"""The scheduler: a pure state machine, facts in and commands out.

No clock, no I/O, no await, no randomness, no logging, no pydantic: a test reads the syntax trees
of this package and refuses them.

    state.py        rows, scopes and the states of a row
    transitions.py  the transition table, as data
    commands.py     what the scheduler asks for, and the inputs that are no events
    core.py         the machine's door: what each fact means to the row that it is about
    ends.py         what follows: joins, opening and closing of scopes, failure, cancellation
    past.py         what only a replay asks for
    rules.py        questions about rows and scopes
    finding.py      rows by their keys
    retry.py        whether a failed attempt is tried again, and after how long
    story.py        why a node is where it is
    invariants.py   what must hold after every fact; for tests and bug reports
"""

from __future__ import annotations
