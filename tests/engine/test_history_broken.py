"""Histories in which something is wrong, written as lines: each rule is broken in turn."""

from __future__ import annotations

import msgspec
import pytest

from onready.engine.history import RULES, check_history
from tests.engine.histories import history, iteration, ran
from tests.engine.shapes import PLANS
from tests.project.tree import ROOT
from tests.scheduler.plans import plan, task

BROKEN: dict[str, tuple[str, str, list[str]]] = {
    "an arm that was not chosen runs": (
        "arm",
        "branch",
        ["start", ran("a"), "open gate then", ran("gate?otherwise/work")],
    ),
    "an arm that the plan has not": ("arm", "branch", ["start", ran("a"), "open gate high"]),
    "a branch opens twice": (
        "scope",
        "branch",
        ["start", ran("a"), "open gate then; open gate otherwise"],
    ),
    "a branch opens before its test": ("dependency", "branch", ["start", "open gate then"]),
    "a branch succeeds and its arm failed": (
        "verdict",
        "branch",
        [
            "start",
            ran("a"),
            "open gate then; begin gate?then/work 1; failed gate?then/work 1",
            "close gate succeeded",
        ],
    ),
    "a task opens": ("scope", "chain", ["start", "open a 1"]),
    "a composite has an attempt": (
        "scope",
        "branch",
        ["start", ran("a"), "open gate then; begin gate 1"],
    ),
    "an attempt before it opens": (
        "scope",
        "branch",
        ["start", ran("a"), "begin gate 1; open gate then"],
    ),
    "a node's end while it is open": (
        "scope",
        "branch",
        ["start", ran("a"), "open gate then; skipped gate"],
    ),
    "closed and never opened": ("scope", "branch", ["start", ran("a"), "close gate succeeded"]),
    "something begins after its scope closed": (
        "scope",
        "inner",
        ["start", "open sub", ran("sub/a"), "close sub failed", ran("sub/b")],
    ),
    "a composite closes too early": (
        "scope",
        "inner",
        ["start", "open sub", "begin sub/a 1", "close sub failed"],
    ),
    "a handler before its body": ("arm", "rescue", ["start", "open guard handler"]),
    "a handler though the body succeeded": (
        "arm",
        "rescue",
        ["start", "open guard body", ran("guard?body/work"), "open guard handler"],
    ),
    "a handler while the body runs": (
        "arm",
        "rescue",
        ["start", "open guard body; begin guard?body/work 1; open guard handler"],
    ),
    "a handler that no event opened": (
        "arm",
        "rescue",
        ["start", "open guard body", ran("guard?handler/work")],
    ),
    "a limit in the middle of an iteration": (
        "scope",
        "repeat",
        ["start", ran("a"), "open poll 1; open poll[0]; begin poll[0]/next 1; failed poll 0"],
    ),
    "a limit twice": (
        "scope",
        "repeat",
        ["start", ran("a"), "open poll 1", iteration(0), "failed poll 0; failed poll 0"],
    ),
    "a limit and a success": (
        "verdict",
        "repeat",
        ["start", ran("a"), "open poll 1", iteration(0), "failed poll 0; close poll succeeded"],
    ),
    "a branch that fails by itself": (
        "scope",
        "branch",
        ["start", ran("a"), "open gate then", ran("gate?then/work"), "failed gate 0"],
    ),
    "an iteration too many": (
        "order",
        "repeat",
        [
            "start",
            ran("a"),
            *(f"open poll {at + 1}; {iteration(at)}" for at in range(4)),
        ],
    ),
    "an iteration left out": (
        "order",
        "repeat",
        ["start", ran("a"), "open poll 1", iteration(0), "open poll 3"],
    ),
    "the first iteration is the second": ("order", "repeat", ["start", ran("a"), "open poll 2"]),
    "an iteration before it opened": (
        "order",
        "repeat",
        ["start", ran("a"), "open poll 1", "open poll[1]"],
    ),
    "an iteration before the last one's end": (
        "order",
        "repeat",
        [
            "start",
            ran("a"),
            "open poll 1",
            ran("poll[0]/next"),
            "begin poll[0]/enough 1; open poll 2",
        ],
    ),
    "the test before the state": (
        "dependency",
        "repeat",
        ["start", ran("a"), "open poll 1", "open poll[0]", ran("poll[0]/enough")],
    ),
    "a clean-up node begins too early": (
        "dependency",
        "always",
        ["start", "begin a 1", ran("b"), "begin clean 1"],
    ),
    "a clean-up node without what it needs": (
        "dependency",
        "always",
        ["start", ran("a"), "begin b 1; failed b 1; begin clean 1"],
    ),
    "a child of what was skipped": (
        "dependency",
        "chain",
        ["start", "skipped a", "begin b 1"],
    ),
    "a map that tolerates nothing": (
        "verdict",
        "map",
        ["start", "open m 1; begin m[0] 1; failed m[0] 1; close m succeeded"],
    ),
    "an item that failed, in an arm": (
        "verdict",
        "map in an arm",
        [
            "start",
            "open gate then; open gate?then/m 1",
            "begin gate?then/m[0] 1; failed gate?then/m[0] 1; close gate?then/m succeeded",
        ],
    ),
    "an item that the count has not": ("order", "map", ["start", "open m 1", ran("m[1]")]),
    "an item without its map": ("scope", "map", ["start", ran("m[0]")]),
    "an item of a map over a graph without its scope": (
        "scope",
        "folds",
        ["start", ran("a"), "open fold 1", ran("fold[0]/fit")],
    ),
    "a plan that needs a count": ("scope", "map", ["start", "open m"]),
    "a node that is not in the plan": ("plan", "chain", ["start", ran("d")]),
    "a node of a scope that is not in the plan": ("plan", "chain", ["start", "open d", ran("d/a")]),
    "an arm is no node": (
        "plan",
        "branch",
        ["start", ran("a"), "open gate then", ran("gate?then")],
    ),
    "a scope closes that is not in the plan": ("plan", "chain", ["start", "close d succeeded"]),
    "redone is what was never there": (
        "rerun",
        "chain",
        ["start", ran("a", "b", "c", "x"), "end succeeded; retry 2 redo=d", ran("c", attempt=2)],
    ),
    "an item of what is no map": ("plan", "chain", ["start", ran("a[0]")]),
    "an old epoch": ("epoch", "chain", ["start", "resume 1"]),
    "an epoch twice": ("epoch", "chain", ["start", "resume 2; resume 2"]),
    "resumed after its end": ("run", "chain", ["start", ran("a"), "end failed a; resume 2"]),
    "retried before its end": ("run", "chain", ["start", ran("a"), "retry 2"]),
    "news after the end": (
        "run",
        "chain",
        ["start", "begin a 1; failed a 1; end failed a; log a 1"],
    ),
    "a success runs again after a crash": (
        "rerun",
        "chain",
        ["start", ran("a"), "resume 2; begin a 2"],
    ),
    "a cached node runs": ("rerun", "chain", ["start", "cached a; begin a 1"]),
    "a kept success runs again in a retry": (
        "rerun",
        "chain",
        ["start", ran("a"), "begin b 1; failed b 1; end failed b; retry 2", ran("a", attempt=2)],
    ),
    "more is redone than was asked for": (
        "rerun",
        "chain",
        ["start", ran("a", "b", "c", "x"), "end succeeded; retry 2 redo=b", ran("x", attempt=2)],
    ),
    "a composite opens again": (
        "rerun",
        "inner",
        ["start", "open sub", ran("sub/a", "sub/b"), "close sub succeeded; open sub"],
    ),
    "a failed composite opens again": (
        "terminal",
        "inner",
        ["start", "open sub; begin sub/a 1; failed sub/a 1; close sub failed; open sub"],
    ),
    "a retry that is late": (
        "terminal",
        "chain",
        ["start", "begin a 1; failed a 1; again a 1"],
    ),
    "a retry counts from one again": (
        "attempts",
        "chain",
        ["start", "begin a 1; failed a 1; end failed a; retry 2; begin a 1"],
    ),
    "an attempt in this process is not adopted": (
        "attempts",
        "chain",
        ["start", "begin a 1; resume 2; begin a 1"],
    ),
    "an attempt is adopted and begins again": (
        "attempts",
        "chain",
        ["start", "plan a 1; begin a 1; resume 2; begin a 1"],
    ),
    "an attempt that nobody ended is followed by another": (
        "attempts",
        "chain",
        ["start", "begin a 1; resume 2; begin a 2"],
    ),
    "an attempt beside another": ("attempts", "chain", ["start", "begin a 1; begin a 2"]),
    "skipped while it runs": ("attempts", "chain", ["start", "begin a 1; skipped a"]),
    "cached while it runs": ("attempts", "chain", ["start", "begin a 1; cached a 1"]),
    "no attempt, while one runs": ("attempts", "chain", ["start", "begin a 1; failed a 0"]),
    "an end of an attempt that is over": (
        "attempts",
        "chain",
        ["start", "begin a 1; again a 1; ok a 1"],
    ),
    "a scope that is open at the end": (
        "ended",
        "inner",
        ["start", "open sub; begin sub/a 1; failed sub/a 1; end failed sub/a"],
    ),
    "a retry that leaves something open": (
        "ended",
        "chain",
        [
            "start",
            ran("a", "c", "x"),
            "begin b 1; failed b 1; end failed b; retry 2; begin b 2; end cancelled",
        ],
    ),
    "not every node ran": (
        "verdict",
        "inner",
        ["start", "open sub", ran("sub/a"), "close sub succeeded"],
    ),
    "it failed for nobody": ("verdict", "chain", ["start", ran("a"), "end failed a"]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_is_found(name: str) -> None:
    rule, shape, lines = BROKEN[name]
    found = check_history(history(*lines), PLANS[shape])
    assert rule in {one.rule for one in found}, [str(one) for one in found]


def test_every_rule_is_broken_here() -> None:
    # `sequence`: histories written as lines have no gaps, see test_history.py.
    assert {rule for rule, _, _ in BROKEN.values()} == set(RULES) - {"sequence"}


def test_the_docs_list_the_rules() -> None:
    page = (ROOT / "docs" / "concepts" / "histories.md").read_text("utf-8").replace("`", "")
    for name, asked in RULES.items():
        assert f"| {name} | {asked} |" in page


def test_another_plan_from_a_retry_on() -> None:
    events = history(
        "start", ran("a", "x"), "begin b 1; failed b 1; skipped c; end failed b", "retry 2"
    )
    events += history(*["log a 1"] * len(events), ran("b", attempt=2), ran("new"), "end succeeded")[
        len(events) :
    ]
    later = plan(task("a"), task("b", 0), task("new", 1))
    # The plan at hand is that of the beginning: from the retry on it says nothing.
    at = next(at for at, event in enumerate(events) if at and type(event).__name__ == "RunResumed")
    events[at] = msgspec.structs.replace(events[at], fingerprint="other")
    assert check_history(events, PLANS["chain"]) == []
    # And the other way round.
    later.fingerprint = "other"
    assert check_history(events, later) == []
    events[-2], events[-1] = (
        msgspec.structs.replace(events[-1], seq=events[-2].seq),
        msgspec.structs.replace(events[-2], seq=events[-1].seq),
    )
    assert {one.rule for one in check_history(events, later)} >= {"ended", "run"}
