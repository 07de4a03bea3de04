"""Histories in which nothing is wrong: composites, clean-up nodes, resumed and retried runs."""

from __future__ import annotations

import pytest

from onready.engine.history import check_history
from tests.engine.histories import history, iteration, ran
from tests.engine.shapes import PLANS

GOOD: dict[str, tuple[str, list[str]]] = {
    "a cached node": ("chain", ["start", "cached a", ran("b", "c", "x"), "end succeeded"]),
    "news come late": (
        "chain",
        ["start", ran("a"), "log a 1", ran("b", "c", "x"), "end succeeded"],
    ),
    "a branch": (
        "branch",
        [
            "start",
            ran("a"),
            "open gate then; skipped gate?otherwise/work",
            ran("gate?then/work"),
            "close gate succeeded",
            ran("after"),
            "end succeeded",
        ],
    ),
    "no arm fits": (
        "branch",
        ["start", ran("a"), "failed gate 0", "skipped after", "end failed gate"],
    ),
    "a rescue that was not needed": (
        "rescue",
        [
            "start",
            "open guard body",
            ran("guard?body/work"),
            "skipped guard?handler/work",
            "close guard succeeded",
            ran("after"),
            "end succeeded",
        ],
    ),
    "a rescue": (
        "rescue",
        [
            "start",
            "open guard body",
            "begin guard?body/work 1; failed guard?body/work 1",
            "open guard handler",
            ran("guard?handler/work"),
            "close guard succeeded",
            ran("after"),
            "end succeeded",
        ],
    ),
    "a repeat": (
        "repeat",
        [
            "start",
            ran("a"),
            "open poll 1",
            iteration(0),
            "open poll 2",
            iteration(1),
            "close poll succeeded",
            ran("after"),
            "end succeeded",
        ],
    ),
    "a repeat that reached its limit": (
        "repeat",
        [
            "start",
            ran("a"),
            *(f"open poll {at + 1}; {iteration(at)}" for at in range(3)),
            "failed poll 0; close poll failed; skipped after; end failed poll",
        ],
    ),
    "a clean-up node after a failure": (
        "always",
        [
            "start",
            "begin a 1; failed a 1",
            ran("b"),
            "skipped c",
            ran("clean"),
            "end failed a",
        ],
    ),
    "a tolerant map": (
        "tolerant",
        [
            "start",
            "open m 2",
            "begin m[0] 1; failed m[0] 1",
            ran("m[1]"),
            "close m succeeded",
            ran("after"),
            "end succeeded",
        ],
    ),
    "resumed after a crash": (
        "chain",
        [
            "start",
            ran("a"),
            "begin b 1",
            "plan x 1",
            "resume 2; again b 1",
            "begin b 2; begin x 1; ok x 1; ok b 2",
            ran("c"),
            "end succeeded",
        ],
    ),
    "adopted after a crash": (
        "chain",
        [
            "start",
            ran("a"),
            "plan b 1; begin b 1",
            "resume 2",
            "ok b 1",
            ran("c", "x"),
            "end succeeded",
        ],
    ),
    "crashed while it waited for its retry": (
        "chain",
        ["start", ran("a"), "begin b 1; again b 1", "resume 2", ran("b", attempt=2), ran("c", "x")],
    ),
    "retried": (
        "chain",
        [
            "start",
            ran("a", "x"),
            "begin b 1; again b 1; begin b 2; failed b 2; skipped c",
            "end failed b",
            "retry 2",
            ran("b", attempt=3),
            ran("c"),
            "end succeeded",
        ],
    ),
    "retried twice": (
        "chain",
        [
            "start",
            ran("a", "x"),
            "begin b 1; failed b 1; skipped c; end failed b",
            "retry 2; begin b 2; failed b 2; skipped c; end failed b",
            "retry 3",
            ran("b", attempt=3),
            ran("c"),
            "end succeeded",
        ],
    ),
    "redone with what needs it": (
        "chain",
        [
            "start",
            ran("a", "b", "c", "x"),
            "end succeeded",
            "retry 2 redo=b",
            ran("b", attempt=2),
            ran("c", attempt=2),
            "end succeeded",
        ],
    ),
    "a sub-graph goes on": (
        "inner",
        [
            "start",
            "open sub",
            ran("sub/a"),
            "begin sub/b 1; failed sub/b 1",
            "close sub failed; skipped after; end failed sub/b",
            "retry 2",
            ran("sub/b", attempt=2),
            "close sub succeeded",
            ran("after"),
            "end succeeded",
        ],
    ),
    "a part of a sub-graph is redone": (
        "inner",
        [
            "start",
            "open sub",
            ran("sub/a", "sub/b"),
            "close sub succeeded",
            ran("after"),
            "end succeeded",
            "retry 2 redo=sub/b",
            "open sub",
            ran("sub/b", attempt=2),
            "close sub succeeded",
            ran("after", attempt=2),
            "end succeeded",
        ],
    ),
    "an item of a map over a graph is redone": (
        "folds",
        [
            "start",
            ran("a"),
            "open fold 2; open fold[0]; open fold[1]",
            ran("fold[0]/fit", "fold[0]/score", "fold[1]/fit", "fold[1]/score"),
            "close fold[0] succeeded; close fold[1] succeeded; close fold succeeded",
            "end succeeded",
            "retry 2 redo=fold[1]/fit",
            ran("fold[1]/fit", attempt=2),
            ran("fold[1]/score", attempt=2),
            "close fold[1] succeeded; close fold succeeded",
            "end succeeded",
        ],
    ),
    "a repeat is redone from an iteration on": (
        "repeat",
        [
            "start",
            ran("a"),
            "open poll 1",
            iteration(0),
            "open poll 2",
            iteration(1),
            "close poll succeeded",
            ran("after"),
            "end succeeded",
            "retry 2 redo=poll[0]/enough",
            ran("poll[0]/enough", attempt=2),
            "close poll[0] succeeded",
            "open poll[1]",
            ran("poll[1]/next", "poll[1]/enough", attempt=2),
            "close poll[1] succeeded",
            "close poll succeeded",
            ran("after", attempt=2),
            "end succeeded",
        ],
    ),
    "a rescue's body is redone": (
        "rescue",
        [
            "start",
            "open guard body",
            "begin guard?body/work 1; failed guard?body/work 1",
            "open guard handler",
            ran("guard?handler/work"),
            "close guard succeeded",
            ran("after"),
            "end succeeded",
            "retry 2 redo=guard?body/work",
            "open guard body",
            ran("guard?body/work", attempt=2),
            "skipped guard?handler/work",
            "close guard succeeded",
            ran("after", attempt=2),
            "end succeeded",
        ],
    ),
    "redone where two ways lead": (
        "diamond",
        [
            "start",
            ran("a", "b", "c", "d"),
            "end succeeded; retry 2 redo=a",
            *(ran(name, attempt=2) for name in "abcd"),
            "end succeeded",
        ],
    ),
    "cancelled": (
        "chain",
        [
            "start",
            "begin a 1; cancelled a 1; cancelled b 0; skipped c; cancelled x 0; end cancelled",
        ],
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_nothing_is_wrong(name: str) -> None:
    shape, lines = GOOD[name]
    events = history(*lines)
    for end in range(1, len(events) + 1):
        assert [str(one) for one in check_history(events[:end], PLANS[shape])] == []
        assert [str(one) for one in check_history(events[:end])] == []
