"""Shell nodes: argv, inputs, outputs; nothing pasted into program text."""

from __future__ import annotations

from typing import Any, cast

import pytest

from onready.engine.graph import GraphBuilder, graph, shell
from onready.engine.options import RetryPolicy
from onready.engine.plan.compile import compile_plan
from onready.engine.plan.model import Arg, Const, FromNode, Plan, Step
from onready.engine.spi import Capabilities, Shell
from onready.engine.values import File
from onready.engine.worker.program import arguments, environment, texts
from tests.graph.defs import inc, plan_of, refused


def work_of(plan: Plan, position: int = 0) -> Shell:
    work = plan.tasks[position].work
    assert isinstance(work, Shell)
    return work


def command(*args: object, **options: Any) -> Shell:
    g = GraphBuilder()
    g.shell(cast("Any", args[0] if len(args) == 1 else args), **options)
    return work_of(plan_of(g.build()))


def test_a_command_is_a_node() -> None:
    @graph
    def main() -> str:
        number = inc(1)
        return shell("echo 'a b' {n} x={n}", inputs={"n": number, "unused": 3}, retry=2, timeout=5)

    plan = plan_of(main.bind())
    node = plan.root.nodes[1]
    assert (node.name, node.kind, node.waits) == ("echo", "task", (0,))
    assert node.args == (Arg("n", FromNode(0)), Arg("unused", Const(3)))
    spec = plan.tasks[1]
    assert spec.backend == "subprocess"
    assert (spec.retry, spec.timeout) == (RetryPolicy(2), 5.0)
    assert work_of(plan, 1) == Shell(("echo", "a b", "{n}", "x={n}"), (), ("n", "unused"))
    assert plan.runtimes[1].returns is str
    assert plan.runtimes[1].function is None


def test_an_image_makes_it_a_container_of_that_image() -> None:
    @graph
    def main() -> str:
        return shell("wc {n}", inputs={"n": 1}, image="a:1", options={"queue": "short"})

    g = GraphBuilder("main")
    g.container("a:1", ["wc", "{n}"], inputs={"n": 1}, options={"queue": "short"})
    backends = {"docker": Capabilities(shell=True, image=True, options=frozenset({"queue"}))}
    made = [compile_plan(bound, backends=backends).tasks for bound in (main.bind(), g.build())]
    assert made[0] == made[1]
    (spec,) = made[0]
    assert (spec.backend, spec.options) == ("docker", {"queue": "short"})
    assert spec.work == Shell(("wc", "{n}"), (), ("n",), (), "a:1")
    with refused("G041", "image='a' and options={'image': 'b'} differ"):
        GraphBuilder().container("a", ["true"], options={"image": "b"})
    with refused("G041", "image=1 cannot be"):
        command("true", image=1)
    with refused("G051", "the backend 'subprocess' runs no images"):
        command("true", image="a", backend="subprocess")


def test_what_the_program_gets() -> None:
    """Together with the worker's part: a value is one argument whatever is in it."""
    work = command(["say", "{text}", "n={n}", "{{text_}}"], inputs={"text": "", "n": 0})
    given = texts({"text": "$(rm -rf /); {n} 'x", "n": 3})
    assert arguments(work, given) == ("say", "$(rm -rf /); {n} 'x", "n=3", "{text_}")
    assert environment(work, given) == {
        "ONREADY_INPUT_TEXT": "$(rm -rf /); {n} 'x",
        "ONREADY_INPUT_N": "3",
    }


def test_scripts_take_values_from_outside_their_text() -> None:
    inputs = {"name": "x"}
    assert command("sh", "-c", 'echo "$1"', "sh", "{name}", inputs=inputs).argv[-1] == "{name}"
    assert command("sh", "-c", 'echo "$ONREADY_INPUT_NAME"', inputs=inputs).inputs == ("name",)
    assert command("tool", "-c", "{name}", inputs=inputs).argv == ("tool", "-c", "{name}")


@pytest.mark.parametrize(
    "argv",
    [
        ("bash", "-lc", "echo {name}"),
        ("/bin/sh", "-ec", "{name}"),
        ("env", "X=1", "bash", "-c", "{name}"),
        ("python3.11", "-c", "print('{name}')"),
        ("perl", "-e", "{name}"),
        ("node", "--eval", "{name}"),
    ],
)
def test_scripts_with_values_in_them_are_refused(argv: tuple[str, ...]) -> None:
    with refused("G044", "{name} stands in program text"):
        command(*argv, inputs={"name": "x"})


def test_braces_that_are_no_placeholders() -> None:
    work = command(["awk", "{print $1}", '{"a": {"b": 1}}', "{}", "{{key}}", "{1}"])
    assert work.argv == ("awk", "{print $1}", '{"a": {"b": 1}}', "{}", "{key}", "{1}")


def test_literal_and_input_of_one_name() -> None:
    with refused("G043", "{{x}} for a literal text and an input 'x'", "Rename the input"):
        command("echo {{x}}", inputs={"x": 1})


def test_outputs_are_files_by_path() -> None:
    @graph
    def main() -> object:
        report = shell("make", outputs="out/report.txt")
        files = shell(["make", "all"], outputs=["a", "b"])
        return [report, files["b"]]

    plan = plan_of(main.bind())
    result = cast("Any", plan.root.result)
    assert result.items == (FromNode(0, (Step("out/report.txt"),)), FromNode(1, (Step("b"),)))
    assert work_of(plan).outputs == ("out/report.txt",)
    assert plan.runtimes[0].returns == dict[str, File]


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../b", "", "a/", "nul\0"])
def test_outputs_stay_below_the_folder(path: str) -> None:
    with refused("G043", "no path below the command's folder"):
        command("true", outputs=[path])


def test_equal_commands_are_one_task() -> None:
    g = GraphBuilder()
    for index in range(3):
        g.shell("echo {x}", inputs={"x": index})
    g.shell("echo {x}", inputs={"x": 1}, timeout=3)
    plan = plan_of(g.build())
    assert [node.task for node in plan.root.nodes] == [0, 0, 0, 1]
    assert [node.name for node in plan.root.nodes] == ["echo", "echo-2", "echo-3", "echo-4"]


def test_names_of_programs_that_are_no_names() -> None:
    g = GraphBuilder()
    g.shell(["./my tool", "x"])
    g.shell(["/usr/bin/env"])
    assert [node.name for node in plan_of(g.build()).root.nodes] == ["shell", "env"]


def test_environment() -> None:
    assert command("env", environment={"B": "2", "A": "1"}).environment == (("A", "1"), ("B", "2"))
    for bad in ({"A": 1}, {"1A": "x"}, {"A": "\0"}):
        with refused("G043", "environment= sets"):
            command("env", environment=bad)


def test_what_is_no_command() -> None:
    for bad in ("", [], [""]):
        with refused("G043", "the command is empty"):
            command(bad)
    for odd in ([1], ["a\0"], ["echo", None]):
        with refused("G043", "which is no text"):
            command(odd)
    with refused("G043", "'a-b' cannot name an input"):
        command("true", inputs={"a-b": 1})
    with refused("G041", "retry='x' cannot be"):
        command("true", retry="x")


def test_after_one_ref() -> None:
    @graph
    def main() -> str:
        first = shell("true")
        return shell("false", after=cast("Any", first))

    assert plan_of(main.bind()).root.nodes[1].waits == (0,)


def test_an_option_that_is_not_there() -> None:
    with refused("G041", "there is no option 'env'"):
        command("env", env={"A": "b"})
