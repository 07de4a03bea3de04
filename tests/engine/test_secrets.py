"""Secrets in graphs and runs: what a node gets, what travels, and what is refused."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest
from anyio import to_thread

from onready.engine.engine import Engine
from onready.engine.errors import ConfigError, RunFailed, SecretError
from onready.engine.events import NodeRetrying
from onready.engine.graph import Bound, GraphBuilder, Secret, each, graph, shell, task
from onready.engine.masking import MASKS
from onready.engine.spi import RunLog
from onready.engine.values import ValueType, summarise
from onready.engine.values.secret import SecretRef, reveal, secret_names
from onready.engine.values.stored import Compound, Encoded
from onready.engine.wire import to_json

pytestmark = pytest.mark.anyio

CANARY = "canary-of-the-engine"


@pytest.fixture
def anyio_backend() -> str:
    """Asyncio alone: blockbuster watches its loop, and the code is the same on both."""
    return "asyncio"


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    monkeypatch.setenv("CANARY", CANARY)
    monkeypatch.setenv("OTHER", "other-canary")
    yield
    MASKS.clear()


@pytest.fixture
async def engine() -> AsyncGenerator[Engine]:
    async with Engine.memory() as engine:
        yield engine


@task
async def size(token: str = Secret("CANARY")) -> int:
    return len(token)


@task
def sizes(config: dict[str, str], more: list[str]) -> list[int]:
    return [len(config["token"]), *map(len, more)]


@task
def number(text: str) -> int:
    return len(text)


@task(backend="process")
def far(config: dict[str, object]) -> dict[str, int]:
    return {key: len(str(value)) for key, value in config.items()}


@task(retry=3)
async def whole(port: int) -> int:
    return port


@task
async def made() -> dict[str, str]:
    return {"x": "word"}


# --- what nodes get -----------------------------------------------------------------------------


async def test_a_default_is_filled_in_where_the_node_runs(engine: Engine) -> None:
    @graph
    def main() -> list[int]:
        return [size(), size("given"), size(Secret("OTHER"))]

    assert await engine.run(main.bind()) == [len(CANARY), 5, len("other-canary")]
    assert await engine.run(size.bind()) == len(CANARY)
    assert await engine.run(size.bind("abc")) == 3


async def test_inside_of_arguments_beside_refs_and_in_maps(engine: Engine) -> None:
    @graph
    def main() -> list[object]:
        plain = sizes({"token": Secret("CANARY")}, ["a", Secret("OTHER")])
        mixed = sizes({"token": Secret("CANARY"), "x": made()["x"]}, [made()["x"]])
        mapped = number.map(each([Secret("CANARY"), "abc"]))
        return [plain, mixed, mapped]

    expected = [[len(CANARY), 1, 12], [len(CANARY), 4], [len(CANARY), 3]]
    assert await engine.run(main.bind()) == expected


async def test_a_run_s_input_reaches_every_backend_as_a_reference(engine: Engine) -> None:
    @graph
    def inner(config: dict[str, str]) -> int:
        return number(config["token"])

    @graph
    def main(config: dict[str, str], token: str = Secret("OTHER")) -> list[object]:
        mixed = far({"a": config["token"], "b": made()["x"], "c": token, "d": config["url"]})
        said = shell(["sh", "-c", 'printf %s "${#ONREADY_INPUT_T}"'], inputs={"t": token})
        return [inner(config), number(config["token"]), mixed, said]

    given = {"token": Secret("CANARY"), "url": "http://x"}
    run = await engine.start(main.bind(given))
    value = await run.result()
    lengths = {"a": len(CANARY), "b": 4, "c": 12, "d": 8}
    assert value == [len(CANARY), len(CANARY), lengths, "12"]
    told = [json.dumps(to_json(run.id, event)) async for event in run.events()]
    assert not [line for line in told if CANARY in line or "other-canary" in line]


async def test_a_program_gets_it_as_a_variable(engine: Engine) -> None:
    g = GraphBuilder()
    said = g.shell(
        ["sh", "-c", 'printf %s "$TOKEN" | wc -c; echo "$TOKEN" >&2'],
        environment={"TOKEN": Secret("CANARY"), "PLAIN": "x"},
    )
    run = await engine.start(g.build(said))
    assert (await run.result()).strip() == str(len(CANARY))


async def test_providers_are_the_engine_s_own(tmp_path: Path) -> None:
    (tmp_path / "CANARY").write_text("from-a-file\n")
    async with Engine.memory(secrets=[f"file:{tmp_path}", "env"]) as engine:
        assert await engine.run(size.bind()) == len("from-a-file")
        assert await engine.run(size.bind(Secret("OTHER"))) == len("other-canary")
        assert await engine.run(far.bind({"a": Secret("CANARY")})) == {"a": 11}
    with pytest.raises(ConfigError, match=r"secrets\[0\]"):
        async with Engine.memory(secrets=[{"type": "file", "paht": "x"}]):
            pass  # pragma: no cover - it does not open


# --- what goes wrong ----------------------------------------------------------------------------


async def failure_of(engine: Engine, bound: Bound[object]) -> str:
    with pytest.raises(RunFailed) as caught:
        await engine.run(bound)
    (failure,) = caught.value.failures
    assert failure.kind == "config", failure
    assert failure.attempt == 1
    return failure.message


async def test_a_missing_secret_is_a_failure_of_its_node_and_not_retried(engine: Engine) -> None:
    wanted = "no provider has the secret 'NOPE'; asked: env"
    retried = size.with_options(retry=2)
    assert await failure_of(engine, retried.bind(Secret("NOPE"))) == wanted
    assert await failure_of(engine, number.bind(Secret("NOPE"))) == wanted
    for backend in ("process", "subprocess"):
        elsewhere = number_far.with_options(backend=backend, retry=2)
        assert await failure_of(engine, elsewhere.bind(Secret("NOPE"))) == wanted
    g = GraphBuilder()
    g.shell("true", inputs={"x": Secret("NOPE")})
    assert await failure_of(engine, g.build()) == wanted
    g = GraphBuilder()
    g.shell("true", environment={"X": Secret("NOPE")})
    assert await failure_of(engine, g.build()) == wanted


@task(backend="process")
def number_far(text: str) -> int:
    return len(text)


async def test_a_secret_that_does_not_fit_shows_nothing_of_itself(engine: Engine) -> None:
    @graph
    def main() -> int:
        return whole(Secret("CANARY"))  # type: ignore[arg-type] # that is what is tested

    for bound in (main.bind(), whole.with_options(backend="process").bind(Secret("CANARY"))):  # type: ignore[arg-type] # as above
        run = await engine.start(bound)
        outcome = await run.wait()
        message = outcome.failures[0].message.removeprefix("input 'port': ")
        assert message == "the value of Secret('CANARY') does not fit int"
        assert [e for e in [event async for event in run.events()] if type(e) is NodeRetrying]


async def test_a_reference_is_no_result_of_a_run(engine: Engine) -> None:
    @graph
    def passes(token: str) -> str:
        size(token)
        return token

    with pytest.raises(SecretError, match=r"the result holds Secret\('CANARY'\)"):
        await engine.run(passes.bind(Secret("CANARY")))


async def test_a_secret_that_comes_by_reference_is_kept_out_of_command_lines(
    engine: Engine,
) -> None:
    @graph
    def main(token: str) -> str:
        return shell("echo {token}", inputs={"token": token})

    message = await failure_of(engine, main.bind(Secret("CANARY")))
    assert message.startswith("{token} would put a secret into a command line; let the program")


def test_it_is_no_text_while_the_graph_is_traced() -> None:
    with pytest.raises(SecretError, match="cannot be put into a text here"):
        f"Bearer {Secret('CANARY')}"
    assert repr(Secret("CANARY")) == "Secret('CANARY')"
    assert {Secret("A"), Secret("A"), Secret("B")} == {Secret("B"), Secret("A")}
    assert Secret("A") != "A"


# --- stored forms -------------------------------------------------------------------------------


def test_the_stored_form_is_the_name() -> None:
    stored = ValueType.of(str).encode(Secret("CANARY"))
    assert stored == Encoded("secret", b"CANARY", None, 6)
    assert ValueType.any().decode(stored) == SecretRef("CANARY")
    assert summarise(stored) == "Secret('CANARY')"
    deep = ValueType.of(dict[str, list[str]]).encode({"a": ["x", Secret("A")], "b": [Secret("B")]})
    assert isinstance(deep, Compound)
    assert secret_names(deep, stored, deep) == ("A", "B", "CANARY")
    shown = reveal(deep, str.lower)
    assert ValueType.any().decode(shown) == {"a": ["x", "a"], "b": ["b"]}
    back = ValueType.any().encode(ValueType.any().decode(deep))
    assert secret_names(back) == ("A", "B")


async def test_a_durable_engine_stores_the_name(tmp_path: Path) -> None:
    async with Engine(folder=tmp_path) as engine:
        log: RunLog = engine.run_log
        run = await engine.start(number_far.bind(Secret("CANARY")), id="one")
        assert await run.result() == len(CANARY)
        again = await engine.start(number_far.bind(Secret("CANARY")), id="one")
        assert await again.result() == len(CANARY)
        assert log.durable

    def found() -> list[Path]:
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        return [path for path in files if CANARY.encode() in path.read_bytes()]

    assert await to_thread.run_sync(found) == []
