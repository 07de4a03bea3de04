"""F25: hostile names are refused where they are defined; hostile values arrive as they are.

Nothing in a value is ever executed: each text would make a file if a shell, Python, YAML or a
template engine read it, and there is none afterwards.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import anyio
import pytest

from onready.engine.engine import Engine
from onready.engine.errors import ConfigError, GraphError, RunFailed
from onready.engine.graph import Bound, GraphBuilder, Secret, Task, each, graph, task
from tests.faults.hostile import NAMES, snippets, texts, values
from tests.faults.sizes import size

T = TypeVar("T")

COUNT = size(2_000, 50_000)
BATCH = 50
SEED = 25


@pytest.fixture
def anyio_backend() -> str:
    """Asyncio alone: the subject is what reaches processes, and they are asyncio's."""
    return "asyncio"


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncGenerator[Engine]:
    async with Engine(folder=tmp_path / "store") as engine:
        yield engine


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


# --- names --------------------------------------------------------------------------------------


def plain() -> int:
    return 1


def node_by_options(name: str) -> object:
    def main() -> int:
        return task(plain).with_options(name=name)()

    return graph(main).bind().graph


DEFINITIONS: dict[str, Callable[[str], object]] = {
    "task": lambda name: task(name=name)(plain),
    "graph": lambda name: graph(name=name)(plain),
    "builder": GraphBuilder,
    "node": lambda name: GraphBuilder().add(task(plain), name=name),
    "node by options": node_by_options,
    "shell node": lambda name: GraphBuilder().shell("true", name=name),
    "param": lambda name: GraphBuilder().param(name),
    "backend": lambda name: task(backend=name)(plain),
    "pool": lambda name: task(pool=name)(plain),
    "codec": lambda name: task(codec=name)(plain),
    "secret": Secret,
    "shell input": lambda name: GraphBuilder().shell("true", inputs={name: "x"}),
    "shell variable": lambda name: GraphBuilder().shell("true", environment={name: "x"}),
}


@pytest.mark.parametrize("what", DEFINITIONS)
def test_hostile_names_are_refused_where_they_are_defined(what: str) -> None:
    codes = {name: _code(DEFINITIONS[what], name) for name in NAMES if not _may(what, name)}
    assert {name for name, code in codes.items() if code not in CODES} == set()


CODES = {"G021", "G041", "G043", "G048"}


def _code(define: Callable[[str], object], name: str) -> str:
    """The code of the refusal; "" where it is let pass."""
    try:
        define(name)
    except GraphError as error:
        return error.code
    return ""


def _may(what: str, name: str) -> bool:
    """Names of inputs lead nowhere: they may be long, and a parameter's may be what Python's are."""
    return (what.startswith("shell ") and name == len(name) * "a" and what != "shell node") or (
        what == "param" and name.isidentifier()
    )


@pytest.mark.parametrize("option", ["backends", "pools"])
def test_an_engine_refuses_hostile_names_of_its_own(option: str) -> None:
    for name in (*NAMES, ""):
        with pytest.raises(ConfigError, match="cannot name a backend or a pool"):
            Engine.memory(**{option: {name: {"type": "thread"} if option == "backends" else 1}})  # type: ignore[arg-type] # one of two


@pytest.mark.anyio
async def test_hostile_run_ids_are_refused_and_nothing_is_recorded(
    engine: Engine, tmp_path: Path
) -> None:
    # A run id may begin with a digit, other names may not.
    for name in (*(name for name in NAMES if name != "1a"), ""):
        with pytest.raises(ConfigError, match="not a run id"):
            await engine.start(task(plain).bind(), id=name)
    assert await engine.runs() == []
    found = [path.name async for path in anyio.Path(tmp_path).iterdir()]
    assert found == ["store"]


# --- values -------------------------------------------------------------------------------------


@task
async def inline(value: object) -> object:
    return value


@task
def thread(value: object) -> object:
    return value


@task(backend="process")
def process(value: object) -> object:
    return value


@task(backend="subprocess")
def subprocess(value: object) -> object:
    return value


def batches(items: Sequence[T], length: int = BATCH) -> Iterator[list[T]]:
    for start in range(0, len(items), length):
        yield list(items[start : start + length])


@pytest.mark.anyio
@pytest.mark.parametrize("one", [inline, thread, process, subprocess], ids=str)
async def test_values_reach_functions_as_they_are(
    engine: Engine, canary: Path, one: Task[[object], object]
) -> None:
    given = values(SEED, COUNT, canary)
    # A process for each value would test the machine: there they go by the hundred.
    whole = list(batches(given, COUNT // 5)) if one is subprocess else None
    items: Sequence[object] = given if whole is None else whole
    g = GraphBuilder()
    got = await engine.run(g.build(g.map(one, each(items), name="echo")))
    wrong = [pair for pair in zip(items, got, strict=True) if repr(pair[0]) != repr(pair[1])]
    assert wrong == []
    assert not await anyio.Path(canary).exists()


def programs(given: Sequence[str]) -> Bound[list[str]]:
    """Each batch as arguments of one program and as variables of another; what they print."""
    g = GraphBuilder()
    said: list[str] = []
    for batch in batches(given):
        inputs = {f"v{index}": text for index, text in enumerate(batch)}
        places = [f"{{{name}}}" for name in inputs]
        said.append(g.shell(["printf", r"%s\0", *places], inputs=inputs))
        variables = " ".join(f'"$ONREADY_INPUT_{name.upper()}"' for name in inputs)
        said.append(g.shell(["sh", "-c", rf"printf '%s\0' {variables}"], inputs=inputs))
    return g.build(said)


@pytest.mark.anyio
async def test_values_reach_programs_as_they_are(engine: Engine, canary: Path) -> None:
    given = texts(SEED, COUNT, canary)
    got = await engine.run(programs(given))
    expected = ["\0".join([*batch, ""]) for batch in batches(given) for _ in range(2)]
    assert [pair for pair in zip(expected, got, strict=True) if pair[0] != pair[1]] == []
    assert not await anyio.Path(canary).exists()


@pytest.mark.anyio
@pytest.mark.parametrize("text", ["a\0b", "\0"])
async def test_what_no_program_can_be_given_fails_its_node(engine: Engine, text: str) -> None:
    g = GraphBuilder()
    g.shell(["printf", "%s", "{v}"], inputs={"v": text})
    with pytest.raises(RunFailed) as caught:
        await engine.run(g.build())
    (failure,) = caught.value.failures
    assert failure.message == "input 'v': a text with a NUL character cannot be given to a program"


@pytest.mark.anyio
async def test_the_canary_would_be_seen(canary: Path) -> None:
    """The texts do what they say where something does execute them."""
    first = snippets(canary)[0]
    await anyio.run_process(["sh", "-c", f"echo {first}"])
    assert await anyio.Path(canary).exists()
