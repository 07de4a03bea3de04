"""What a node knows of itself: `current()`, progress, its folder, what it logs."""

from __future__ import annotations

import stat
from contextvars import Context, copy_context
from pathlib import Path

import anyio.to_thread
import pytest
import structlog

from onready import Engine, NodeContext, Provided, each, graph, task
from onready.engine.context import add_node_context, current
from onready.engine.errors import InternalError
from onready.engine.events import NodeLog, NodeProgress
from onready.engine.folders import make_private

pytestmark = pytest.mark.anyio


@task
async def whoami(x: int) -> list[object]:
    here = current()
    assert here is not None
    return [here.run, here.node, here.attempt]


@task
def whoami_in_thread(x: int) -> list[object]:
    here = current()
    assert here is not None
    return [here.run, here.node, here.attempt]


@graph
def everyone(xs: list[int]) -> list[object]:
    return [whoami.map(each(xs)), whoami_in_thread.map(each(xs))]


async def test_current_is_the_node_on_whose_behalf_code_runs(engine: Engine) -> None:
    assert current() is None
    run = await engine.start(everyone.bind([1, 2]))
    assert await run.result() == [
        [[run.id, f"{name}[{n}]", 1] for n in (0, 1)] for name in ("whoami", "whoami_in_thread")
    ]
    assert current() is None


async def test_current_reaches_the_tasks_and_threads_of_a_node(memory: Engine) -> None:
    @task
    async def deep() -> list[str]:
        seen: list[str] = []

        async def look() -> None:
            here = current()
            seen.append(here.node if here is not None else "nobody")

        async with anyio.create_task_group() as group:
            group.start_soon(look)
        seen.append(await anyio.to_thread.run_sync(lambda: str(current() and "thread")))
        return seen

    assert await memory.run(deep.bind()) == ["deep", "thread"]


async def test_what_an_attempt_says_after_its_end_is_no_news(memory: Engine) -> None:
    kept: list[NodeContext] = []

    @task
    async def hands_out(context: NodeContext = Provided(NodeContext)) -> None:
        context.log("stdout", b"in time")
        kept.append(context)

    run = await memory.start(hands_out.bind())
    await run.wait()
    before = [event async for event in run.events()]
    kept[0].progress(0.5, "late")
    kept[0].log("stdout", b"late")
    assert [event async for event in run.events()] == before


async def test_who_asks_after_the_scope_closed_is_told_so(memory: Engine) -> None:
    kept: list[Context] = []

    @task
    async def leaves() -> None:
        kept.append(copy_context())

    @graph
    def inner() -> None:
        return leaves()

    @graph
    def outer() -> None:
        return inner()

    await memory.run(outer.bind())
    with pytest.raises(InternalError, match="its scope is closed"):
        kept[0].run(current)


@pytest.mark.parametrize("fraction", [-0.01, 1.01, float("nan"), float("inf")])
async def test_progress_is_a_fraction(memory: Engine, fraction: float) -> None:
    @task
    async def wrong(context: NodeContext = Provided(NodeContext)) -> None:
        context.progress(fraction)

    outcome = await (await memory.start(wrong.bind())).wait()
    assert outcome.failures[0].type == "ValueError"
    assert "from 0 to 1" in outcome.failures[0].message


@pytest.mark.parametrize("backend", ["inline", "thread"])
async def test_progress_and_output_are_told_from_anywhere(engine: Engine, backend: str) -> None:
    run = await engine.start(speaks.bind(), backend=backend)
    await run.result()
    events = [event async for event in run.events()]
    told = [(e.fraction, e.message) for e in events if isinstance(e, NodeProgress)]
    assert told == [(0.0, ""), (None, "working"), (1.0, "done")]
    # Once when the first bytes come, once with the final size; nothing for no bytes.
    sizes = [(e.stream, e.size) for e in events if isinstance(e, NodeLog)]
    assert sizes == [("stdout", 3), ("stdout", 7)]
    frames = await anyio.to_thread.run_sync(lambda: list(engine.logs.read(run.id, name_of(run.id))))
    assert b"".join(frame.data for frame in frames) == b"abcdefg"


def name_of(run: str) -> str:
    from onready.engine.names import NodeKey, dispatch_name

    return dispatch_name(run, NodeKey("speaks"), 1)


@task
async def speaks(context: NodeContext = Provided(NodeContext)) -> None:
    context.progress(0.0)
    context.progress(message="working")
    context.log("stdout", b"abc")
    context.log("stdout", b"defg")
    context.log("stderr", b"")
    context.progress(1.0, "done")


async def test_the_scratch_folder_is_private_and_goes_with_the_run(engine: Engine) -> None:
    modes: list[int] = []

    @task
    def fill(context: NodeContext = Provided(NodeContext)) -> str:
        (context.folder / "big").write_bytes(b"x")
        modes.append(stat.S_IMODE(context.folder.stat().st_mode))
        return str(context.folder)

    folder = Path(await engine.run(fill.bind()))
    assert modes == [0o700]
    assert not folder.exists()
    assert not folder.parent.exists()


def test_private_folders_leave_what_exists_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    made = make_private(tmp_path / "a" / "b")
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    for folder in (made, made.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    made.chmod(0o755)
    assert stat.S_IMODE(make_private(made).stat().st_mode) == 0o755


async def test_what_nodes_log_with_structlog_says_who_logged_it(engine: Engine) -> None:
    output = structlog.testing.CapturingLogger()
    log: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
        output, processors=[add_node_context, structlog.processors.KeyValueRenderer()]
    )

    @task
    async def talks(x: int) -> None:
        log.info("hello", x=x)

    @task
    def talks_in_thread(x: int) -> None:
        log.info("hi", node="mine")

    @graph
    def both() -> list[None]:
        return [talks(1), talks_in_thread.with_options(name="other")(2)]

    log.info("outside")
    run = await engine.start(both.bind())
    await run.result()
    lines = [str(call.args[0]) for call in output.calls]
    assert lines[0] == "event='outside'"
    assert sorted(lines[1:]) == sorted(
        [
            f"x=1 event='hello' run={run.id!r} node='talks' attempt=1",
            f"node='mine' event='hi' run={run.id!r} attempt=1",
        ]
    )
