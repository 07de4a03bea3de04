"""Stories: why a node is where it is, readable in each situation."""

from __future__ import annotations

import pytest
from inline_snapshot import snapshot

from onready.engine.errors import Failure
from onready.engine.scheduler import ends
from onready.engine.scheduler.commands import RetryDue
from onready.engine.scheduler.story import story
from tests.scheduler.plans import fragment, graphs_map, plan, subgraph, task, tasks_map
from tests.scheduler.steps import Steps

BODY = fragment(task("x"), task("y", 0))
PLAN = plan(task("load", retry=1), graphs_map("fit", BODY, 0), task("pick", 0, 1))
WHY = Failure("error", "no such host", "OSError")


def told(steps: Steps, key: str) -> str:
    return "\n".join(story(steps[key]))


def test_one_that_waits_names_what_for() -> None:
    assert told(Steps(PLAN), "pick") == snapshot("""\
pick: waiting, attempt 0, retries used 0
  waits for load: ready
  waits for fit: waiting
  in the run: open, 3 of 3 left\
""")


def test_one_that_waits_for_what_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ends, "BUDGET", 1)
    assert told(Steps(plan(task("pick", 1), task("fit"))), "pick") == snapshot("""\
pick: waiting, attempt 0, retries used 0
  waits for fit: not opened yet
  in the run: open, 2 of 2 left\
""")


def test_one_that_waits_for_the_rest_only() -> None:
    steps = Steps(PLAN)
    steps.succeed("load")
    assert told(steps, "pick") == snapshot("""\
pick: waiting, attempt 0, retries used 0
  waits for fit: ready
  in the run: open, 2 of 3 left\
""")


def test_one_that_is_ready() -> None:
    assert told(Steps(PLAN), "load") == snapshot("""\
load: ready, attempt 0, retries used 0
  in the run: open, 3 of 3 left\
""")


def test_one_that_waits_to_be_tried_again() -> None:
    steps = Steps(PLAN)
    steps.handle(steps.start("load"), steps.again("load", WHY))
    assert told(steps, "load") == snapshot("""\
load: backing_off, attempt 1, retries used 1
  last failure: error: OSError: no such host
  in the run: open, 3 of 3 left\
""")
    steps.handle((steps["load"], RetryDue(1)))
    steps.handle(steps.start("load"))
    assert told(steps, "load") == snapshot("""\
load: running, attempt 2, retries used 1
  last failure: error: OSError: no such host
  in the run: open, 3 of 3 left\
""")


def test_a_composite_tells_of_its_body() -> None:
    steps = Steps(PLAN)
    steps.succeed("load")
    steps.handle(steps.open("fit", 3))
    steps.handle(*(steps.open(f"fit[{at}]") for at in range(3)))
    steps.succeed("fit[1]/x", "fit[1]/y")
    assert told(steps, "fit") == snapshot("""\
fit: running, attempt 0, retries used 0
  its body: 2 of 3 left, 0 failed
  in the run: open, 2 of 3 left\
""")
    assert told(steps, "fit[2]") == snapshot("""\
fit[2]: running, attempt 0, retries used 0
  its body: 2 of 2 left, 0 failed
  in fit: open, 2 of 3 left
  in the run: open, 2 of 3 left\
""")


def test_one_in_the_depth_names_every_scope_around_it() -> None:
    steps = Steps(plan(subgraph("outer", fragment(subgraph("inner", BODY)))))
    steps.handle(steps.open("outer"))
    steps.handle(steps.open("outer/inner"))
    assert told(steps, "outer/inner/y") == snapshot("""\
outer/inner/y: waiting, attempt 0, retries used 0
  waits for x: ready
  in outer/inner: open, 2 of 2 left
  in outer: open, 1 of 1 left
  in the run: open, 1 of 1 left\
""")


def test_one_that_failed_and_one_that_was_stopped_by_it() -> None:
    steps = Steps(plan(task("a"), tasks_map("m")), "cancel")
    steps.handle(steps.open("m", 2), steps.start("a"))
    steps.handle(steps.start("m[1]"))
    row = steps["a"]
    steps.handle(steps.badly("a", WHY))
    assert "\n".join(story(row)) == snapshot("""\
a: failed, attempt 1, retries used 0
  last failure: error: OSError: no such host
  in the run: doomed, cancelling by a, 1 of 2 left\
""")
    assert told(steps, "m[0]") == snapshot("""\
m[0]: cancelled, attempt 0, retries used 0
  in m: doomed, cancelling by a, 1 of 2 left
  in the run: doomed, cancelling by a, 1 of 2 left\
""")
    assert told(steps, "m[1]") == snapshot("""\
m[1]: cancelling, attempt 1, retries used 0
  in m: doomed, cancelling by a, 1 of 2 left
  in the run: doomed, cancelling by a, 1 of 2 left\
""")


def test_one_in_a_cancelled_run() -> None:
    steps = Steps(plan(task("a")))
    steps.handle(steps.start("a"))
    steps.handle(steps.cancel())
    assert told(steps, "a") == snapshot("""\
a: cancelling, attempt 1, retries used 0
  in the run: cancelling, 1 of 1 left\
""")
