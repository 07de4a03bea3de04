"""`onready debug`: one node again, with what it had: values, parts, blobs, files, failures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.cli.terminal import Terminal

pytestmark = pytest.mark.may_block("the command line owns its loop, and writes to the terminal")

SOURCE = """\
from dataclasses import dataclass
from pathlib import Path

from onready import (
    Failure, File, NodeContext, Provided, each, graph, repeat, rescue, shell, task,
)


@dataclass
class Point:
    x: int
    tags: list[str]


@task
def point() -> Point:
    return Point(3, ["a", "b" * 40_000])


@task
async def use(x: int, tags: list[str], context: NodeContext = Provided(NodeContext)) -> str:
    context.progress(0.5, "half")
    print("using", x, context.node, context.attempt)
    return f"{x} {len(tags[1])}"


@task
def files() -> File:
    Path("made.txt").write_text("content")
    return File("made.txt")


@task
def read(file: File) -> str:
    return Path(file).read_text()


@task
def divide(i: int) -> float:
    return 1 / i


@task
def mend(i: int, failure: Failure = Provided(Failure)) -> float:
    print("mending", failure.type, i)
    return -1.0


@task
def pool(db: object = Provided("db")) -> int:
    return 1


@task
def more(state: int) -> int:
    return state + 1


@task
def enough(state: int) -> bool:
    return state > 2


@graph
def risky(i: int) -> float:
    return divide(i)


@graph
def all_of_it(xs: list[int] = [1, 0]) -> str:
    made = point()
    text = use(made.x, made.tags)
    read(files())
    script = ["sh", "-c", 'cat "$1"; echo " $2"', "sh", "{file}", "{x}"]
    shell(script, name="show", inputs={"file": files(), "x": made.x})
    shell(["sh", "-c", "exit 3"], name="fails")
    shell(["true"], outputs=["x.txt"], name="leaves")
    repeat(more, 0, until=enough, limit=9)
    rescue(risky.bind(0), mend.bind(7))
    divide.map(each(xs))
    return text
"""


@pytest.fixture
def ran(cli: Cli, folder: Path) -> Path:
    """A folder with a run of everything, called `one`."""
    (folder / "g.py").write_text(SOURCE)
    (folder / "onready.toml").write_text("")
    assert cli("run", "g.py:all_of_it", "--name", "one", "--on-error", "continue").code == 1
    return folder


def events(cli: Cli) -> str:
    return cli("events", "one").out


def test_parts_of_a_value_in_the_catalog(cli: Cli, ran: Path) -> None:
    before = events(cli)
    said = cli("debug", "one", "use")
    assert said.code == 0, said
    assert said.out == "using 3 use 1\n3 40000\n"
    lines = said.err.splitlines()
    assert lines[0] == "use of run one, again in this process"
    assert lines[1].startswith("  inputs  x=")
    assert lines[2] == "onready: progress 50% half"
    assert re.fullmatch(r"✓ use succeeded in .*", lines[3])
    assert events(cli) == before, "the run is not touched"


def test_a_failure_shows_the_users_traceback(cli: Cli, ran: Path) -> None:
    said = cli("debug", "one", "divide[1]")
    assert (said.code, said.out) == (1, "")
    lines = said.err.splitlines()
    assert lines[1] == "  inputs  i=0"
    assert lines[2] == "Traceback (most recent call last):"
    assert re.fullmatch(r'  File ".*/g.py", line \d+, in divide', lines[3])
    assert lines[-2] == "ZeroDivisionError: division by zero"
    assert lines[-1].startswith("x divide[1] failed in ")
    assert "onready" not in said.err
    assert cli("debug", "one", "divide[0]").out == "1.0\n"


def test_files_iterations_handlers_and_programs(cli: Cli, ran: Path) -> None:
    (ran / "made.txt").unlink()
    assert cli("debug", "one", "read").out == "content\n"
    assert cli("debug", "one", "repeat[2]/more").out == "3\n"
    assert cli("debug", "one", "repeat[2]/enough").out == "True\n"
    assert cli("debug", "one", "rescue?handler/mend").out == "mending ZeroDivisionError 7\n-1.0\n"
    (ran / "made.txt").write_text("content")
    program = cli("debug", "one", "show")
    assert program.code == 0, program
    assert program.out == "content 3\n"
    assert re.search(r"^  \$ sh -c .*", program.err, re.MULTILINE)
    fails = cli("debug", "one", "fails")
    assert fails.code == 1
    assert "x fails failed: exit status 3" in fails.err
    leaves = cli("debug", "one", "leaves")
    assert leaves.code == 1
    assert "x leaves failed: it left no 'x.txt'" in leaves.err


def test_the_code_as_it_is_now_runs(command: Cli, ran: Path) -> None:
    path = ran / "g.py"
    path.write_text(path.read_text().replace("return 1 / i", "return 1 / (i or 4)"))
    said = command("debug", "one", "divide[1]")
    assert (said.code, said.out) == (0, "0.25\n")
    assert re.search(r"  note: its code changed since the run \(g.py:\d+\)", said.err)
    path.write_text(path.read_text().replace("return 1 / (i or 4)", "return 'x'"))
    wrong = command("debug", "one", "divide[1]")
    assert wrong.code == 1
    assert re.search(r"x divide\[1\] failed: .*float", wrong.err)


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ("devide[1]", "devide[1] is no node of one; did you mean 'divide[1]'?"),
        ("divide", "divide is no single node of one"),
        ("repeat", "repeat is no single node of one"),
        ("a//b", "not a node key"),
    ],
)
def test_what_cannot_be_run_again(cli: Cli, ran: Path, node: str, said: str) -> None:
    got = cli("debug", "one", node)
    assert got.code == 2
    assert said in got.err
    assert "Traceback" not in got.err


def test_a_live_object_of_the_program_that_started_the_run(cli: Cli, folder: Path) -> None:
    import anyio

    from onready import Engine
    from onready.cli.target import find_target

    (folder / "g.py").write_text(SOURCE)
    bound = find_target("g.py:pool").bind({})

    async def run() -> None:
        async with Engine() as engine:
            await engine.run(bound, provided={"db": object()}, name="one")

    anyio.run(run)
    said = cli("debug", "one", "pool")
    assert said.code == 2
    assert "its parameter 'db' wants the live object 'db', which only the program" in said.err


def test_secrets_are_resolved_again_and_masked(
    cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "s.py").write_text(
        "from onready import Secret, graph, shell, task\n"
        "@task\n"
        "def use(token: str) -> int:\n"
        "    print(len(token))\n"
        "    raise ValueError(f'bad {token}')\n"
        "@graph\n"
        "def s() -> int:\n"
        "    size = ['sh', '-c', 'echo ${#TOKEN}']\n"
        "    shell(size, name='size', environment={'TOKEN': Secret('CANARY')})\n"
        "    return use(token=Secret('CANARY'))\n"
    )
    monkeypatch.setenv("CANARY", "a-canary-of-24-characters")
    assert cli("run", "s.py", "--name", "one", "--on-error", "continue").code == 1
    said = cli("debug", "one", "use")
    assert (said.code, said.out) == (1, "25\n")
    assert "ValueError: bad ***" in said.err
    assert "token=Secret('CANARY')" in said.err
    assert cli("debug", "one", "size").out == "25\n"
    monkeypatch.delenv("CANARY")
    without = cli("debug", "one", "use")
    assert without.code == 2
    assert "no provider has the secret 'CANARY'" in without.err


def test_no_debugger_without_a_terminal(cli: Cli, ran: Path) -> None:
    said = cli("debug", "one", "divide[1]", "--pdb")
    assert said.code == 2
    assert "--pdb needs a terminal" in said.err


def test_the_debugger_stays_where_it_failed(ran: Path) -> None:
    with Terminal(ran, "debug", "one", "divide[1]", "--pdb") as terminal:
        terminal.shows(r"\(Pdb\) ")
        terminal.press("p i + 41\n")
        terminal.shows(r"\n41\r?\n")
        terminal.press("q\n")
        assert terminal.wait() == 1
