"""`onready plan`, `onready graph`, `onready list`: looking at graphs without running them.

Rule of this room: compiles through the engine and prints.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from onready.cli.common import SELECT_HELP, FormatOption, TargetArgument, compile_target
from onready.cli.console import Console
from onready.cli.exits import FAILED, USAGE, Usage
from onready.cli.flags import MISSING, Flag
from onready.cli.target import find_target, graphs_in
from onready.cli.words import columns, counted, cut, inside, short
from onready.config import load_config
from onready.engine.errors import GraphError

if TYPE_CHECKING:
    from onready.engine.plan.model import Fragment, Plan, PlanNode, TaskSpec

SelectOption = Annotated[
    list[str],
    Parameter(
        name=["--select", "-s"],
        consume_multiple=True,
        negative=(),
        show_default=False,
        help=SELECT_HELP,
    ),
]
ProfileOption = Annotated[
    str | None, Parameter(name="--profile", help="Profile of the configuration file.")
]
BackendOption = Annotated[
    str | None, Parameter(name="--backend", help="Run all Python tasks on this backend.")
]


def plan(
    target: TargetArgument,
    /,
    *,
    select: SelectOption = [],  # noqa: B006 - read only
    backend: BackendOption = None,
    profile: ProfileOption = None,
    format: FormatOption = "text",  # noqa: A002 - the flag's name
) -> int:
    """Check a graph without running it: its nodes, backends and options, its fingerprint."""
    from onready.engine.plan.view import view

    console = Console()
    found = find_target(target)
    made = compile_target(found, load_config(profile=profile), backend=backend, select=select)
    if format == "json":
        console.out(json.dumps(view(made), indent=2))
        return 0
    console.out("\n".join(_plan_text(console, made)))
    return 0


def _plan_text(console: Console, plan: Plan) -> list[str]:
    from onready.engine.plan.shape import count_nodes

    params = ", ".join(
        param.name
        + (f": {param.type}" if param.type else "")
        + ("" if param.required else " = ...")
        for param in plan.root.params
    )
    where = f"  ({short(str(plan.location))})" if plan.location is not None else ""
    facts = [
        f"{console.paint(plan.name, 'bold')}{where}",
        f"  parameters   {params or 'none'}",
        f"  on error     {plan.on_error}"
        + (f", timeout {plan.timeout:g} s" if plan.timeout else ""),
        f"  fingerprint  {plan.fingerprint[:16]}",
        "",
    ]
    rows = [("NODE", "BACKEND", "NEEDS", "OPTIONS"), *_node_rows(plan, plan.root, "")]
    table = columns(rows, "  ")
    table[0] = console.paint(table[0], "dim")
    nodes = counted(count_nodes(plan.root), "node")
    return [*facts, *table, "", f"{console.paint('ok', 'green')}: {nodes}, every check passed"]


def _node_rows(plan: Plan, fragment: Fragment, indent: str) -> Iterator[tuple[str, str, str, str]]:
    from onready.engine.plan.shape import arm_title, title

    for node in fragment.nodes:
        task = plan.tasks[node.task] if node.task is not None else None
        needs = ", ".join(fragment.nodes[position].name for position in node.waits)
        backend = task.backend if task is not None else ""
        yield f"{indent}{title(node)}", backend, cut(needs, 40) or "-", _options(node, task)
        if node.body is not None:
            yield from _node_rows(plan, node.body, f"{indent}  ")
        for arm in node.arms:
            yield f"{indent}  {arm_title(node, arm)}", "", "", ""
            yield from _node_rows(plan, arm.body, f"{indent}    ")


def _options(node: PlanNode, task: TaskSpec | None) -> str:
    from onready.engine.plan.shape import marks

    kind = "sub-graph" if node.kind == "subgraph" else node.kind
    parts: list[str] = [kind] if node.bodies and kind not in {node.name, "map"} else []
    parts += marks(node)
    if node.limit:
        parts.append(f"limit {node.limit}")
    if task is not None:
        parts += _task_options(task)
    return ", ".join(parts)


def _task_options(task: TaskSpec) -> Iterator[str]:
    if task.retry.limit:
        yield f"retry {task.retry.limit}"
    if task.timeout:
        yield f"timeout {task.timeout:g} s"
    if task.node_timeout:
        yield f"node timeout {task.node_timeout:g} s"
    if task.pool:
        yield f"pool {task.pool}"
    if task.resources.cpu:
        yield f"cpu {task.resources.cpu:g}"
    if task.resources.memory:
        yield f"memory {task.resources.memory}"
    if task.resources.gpu:
        yield f"gpu {task.resources.gpu}"
    if task.codec:
        yield f"codec {task.codec}"
    yield from (f"{name} {value}" for name, value in task.options.items())


def graph(
    target: TargetArgument,
    /,
    *,
    select: SelectOption = [],  # noqa: B006 - read only
    profile: ProfileOption = None,
    format: Annotated[  # noqa: A002 - the flag's name
        Literal["text", "mermaid"], Parameter(name="--format", help="For a terminal, or Mermaid.")
    ] = "text",
) -> int:
    """Draw a graph."""
    from onready.engine.plan.drawing import draw_mermaid, draw_text

    made = compile_target(find_target(target), load_config(profile=profile), select=select)
    text = draw_mermaid(made) if format == "mermaid" else draw_text(made)
    Console().out(text.rstrip("\n"))
    return 0


# --- list -------------------------------------------------------------------------------------


def list_graphs(
    path: Annotated[
        Path, Parameter(help="A Python file or a folder; by default this one.")
    ] = Path(),
    *,
    format: FormatOption = "text",  # noqa: A002 - the flag's name
) -> int:
    """The graphs in a file or folder, with their parameters. Files are imported to see them."""
    console = Console()
    if not path.exists():
        message = f"onready list: no file or folder {path}"
        raise Usage(message)
    graphs: list[dict[str, object]] = []
    broken = 0
    for file in _files(path):
        try:
            graphs += _graphs_of(file, path)
        except GraphError as error:
            broken += 1
            console.complain(f"{console.err('error:', 'red')} {file}: {inside(error.message)}")
    if format == "json":
        console.out(json.dumps(graphs, indent=2))
    elif graphs:
        for item in graphs:
            console.out(f"{console.paint(str(item['target']), 'bold')}{item['signature']}")
            if item["about"]:
                console.out(f"    {item['about']}")
    else:
        console.say(f"no graphs in {path}; `onready init` writes a first one")
    return USAGE if broken and path.is_file() else FAILED if broken and not graphs else 0


def _files(path: Path) -> list[Path]:
    """The Python files to look into: those that mention onready, hidden folders left out."""
    if path.is_file():
        return [path]
    found: list[Path] = []
    for file in sorted(path.rglob("*.py")):
        parts = file.relative_to(path).parts
        hidden = any(part.startswith((".", "__")) or part == "site-packages" for part in parts)
        if not hidden and b"onready" in file.read_bytes():
            found.append(file)
    return found


def _graphs_of(file: Path, root: Path) -> list[dict[str, object]]:
    from onready.cli.target import Target
    from onready.engine.loading import load_file

    del root
    made: list[dict[str, object]] = []
    for name, found in graphs_in(load_file(file)).items():
        target = Target(f"{file}:{name}", found)
        flags = target.flags()
        made.append(
            {
                "target": target.address,
                "name": target.name,
                "signature": f"({', '.join(_signature(flag) for flag in flags)})",
                "about": target.about,
                "parameters": [_flag_json(flag) for flag in flags],
            }
        )
    return made


def _signature(flag: Flag) -> str:
    text = flag.name + (f": {flag.type_name}" if flag.type_name else "")
    return text if flag.default is MISSING else f"{text} = {cut(repr(flag.default), 24)}"


def _flag_json(flag: Flag) -> dict[str, object]:
    data: dict[str, object] = {
        "name": flag.name,
        "type": flag.type_name,
        "required": flag.default is MISSING,
    }
    if flag.default is not MISSING:
        try:
            json.dumps(flag.default)
            data["default"] = flag.default
        except (TypeError, ValueError):
            data["default"] = repr(flag.default)
    return data
