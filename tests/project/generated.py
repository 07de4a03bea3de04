"""The parts of the documentation that are made from the code.

`python -m tests.project.generated` writes them; a test holds that they are up to date.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, get_args, get_type_hints

from tests.project.tree import ROOT

BLOCK: Final = re.compile(
    r"(?P<head><!-- generated: (?P<name>[a-z-]+) -->\n).*?(?P<tail><!-- end of generated -->)",
    re.DOTALL,
)
FAILURE_KINDS: Final = {
    "error": "The function raised.",
    "timeout": "The attempt, the node or the run took too long.",
    "oom": "Killed for lack of memory.",
    "exit": "The program or worker ended with another status than 0, or by a signal.",
    "evicted": "The platform took the attempt away. Does not use up your retries.",
    "image": "The image cannot be had.",
    "config": "The node cannot run as it is configured. Never retried.",
    "unschedulable": "The platform has no place for it.",
    "lost": "What became of the attempt cannot be known. Does not use up your retries.",
    "cancelled": "It was stopped.",
}

LOADING: Final = {
    "G060": (
        "What should name a function is no reference.",
        "Write `module:name` or `file.py:name`.",
    ),
    "G061": ("There is no such module or file.", "Install its package where the worker runs."),
    "G062": ("The module has no such name.", "Define it at the top level of the module."),
    "G063": ("The module's import failed.", "See the cause: it is your module's own error."),
    "G064": ("What the reference names is no function.", "Name a function or a task."),
}
"""Codes of engine/loading.py, which workers import without the graph layer."""

SELECTION: Final = {
    "G070": ("A selection means no node of the graph.", "Name a node, or use a glob."),
    "G071": (
        "A selected node takes the value of one that is left out.",
        "Select what it needs too: `+name`.",
    ),
}
"""Codes of engine/plan/select.py: they are about a run, not about a definition."""


def states() -> str:
    """The transition table as a picture."""
    from onready.engine.scheduler.transitions import state_diagram

    return f"```mermaid\n{state_diagram()}```\n"


def graph_codes() -> str:
    """The codes of GraphError."""
    from onready.engine.graph.codes import CODES

    rows = [(f"`{name}`", code.meaning, code.cure) for name, code in CODES.items()]
    rows += [(f"`{name}`", *texts) for name, texts in (LOADING | SELECTION).items()]
    return table(("code", "meaning", "what to do"), rows)


def events() -> str:
    """The closed set of events."""
    from onready.engine.events import AnyEvent

    rows: list[tuple[str, ...]] = []
    for kind in get_args(AnyEvent):
        config, names = kind.__struct_config__, kind.__struct_fields__
        fields = ", ".join(f"`{name}`" for name in names if name not in {"seq", "at"})
        rows.append((f"`{config.tag}`", fields, " ".join((kind.__doc__ or "").split())))
    return table(("type", "fields", "meaning"), rows)


def errors() -> str:
    """The exception tree, as it is drawn in the module."""
    from onready.engine import errors as module

    lines = (module.__doc__ or "").splitlines()
    drawn = [line.removeprefix("    ") for line in lines if line.startswith("    ")]
    return "```text\n" + "\n".join(drawn) + "\n```\n"


def failure_kinds() -> str:
    """What can become of an attempt."""
    from onready.engine.errors import FailureKind

    rows = [(f"`{kind}`", FAILURE_KINDS[kind]) for kind in get_args(FailureKind)]
    return table(("kind", "meaning"), rows)


def exit_codes() -> str:
    """The constants of cli/exits.py with the texts below them."""
    body = ast.parse((ROOT / "src/onready/cli/exits.py").read_text()).body
    plain = {
        "OK": "The run succeeded, or the command did what it was asked.",
        "CANCELLED": "The run was cancelled, by Ctrl-C for example.",
        "TERMINATED": "The command was told to end (SIGTERM).",
    }
    rows: list[tuple[str, ...]] = []
    for node, after in zip(body, [*body[1:], None], strict=True):
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Constant)):
            continue
        name, code = ast.unparse(node.target), node.value.value
        text = ast.get_docstring(ast.Module([after], [])) if after is not None else None
        rows.append((f"`{code!r}`", text or plain[name]))
    return table(("code", "meaning"), rows)


def settings() -> str:
    """Every setting: key, variable, default, meaning."""
    from onready.config import DEFAULTS, PREFIX
    from onready.config_model import Settings

    rows = [
        (f"`{key}`", f"`{PREFIX}{key.upper()}`", _default(DEFAULTS[key]), field.description or "")
        for key, field in Settings.model_fields.items()
    ]
    return table(("key", "variable", "default", "meaning"), rows)


def _default(value: object) -> str:
    if value is None:
        return "unset"
    return "empty" if value == {} else f"`{value}`"


def verbs() -> str:
    """The verbs, as the overview lists them."""
    from onready.cli.app import VERBS

    return table(("verb", "does"), [(f"`{name}`", verb.help) for name, verb in VERBS.items()])


def run_options() -> str:
    """The options of `onready run`, from their annotations."""
    from cyclopts import Parameter

    from onready.cli.common import Stores
    from onready.cli.run import Options

    rows: list[tuple[str, ...]] = []
    for kind in (Options, Stores):
        for hint in get_type_hints(kind, include_extras=True).values():
            (given,) = (item for item in hint.__metadata__ if isinstance(item, Parameter))
            names = ", ".join(f"`{name}`" for name in given.name or ())
            rows.append((names, given.help or ""))
    return table(("option", "meaning"), rows)


GENERATORS: Final[dict[str, Callable[[], str]]] = {
    "states": states,
    "graph-codes": graph_codes,
    "events": events,
    "errors": errors,
    "failure-kinds": failure_kinds,
    "exit-codes": exit_codes,
    "settings": settings,
    "verbs": verbs,
    "run-options": run_options,
}


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def pages() -> list[Path]:
    """The pages that have generated parts."""
    return [
        path for path in sorted((ROOT / "docs").rglob("*.md")) if BLOCK.search(path.read_text())
    ]


def renewed(text: str) -> str:
    """A page's text with its generated parts made anew."""
    return BLOCK.sub(
        lambda match: f"{match['head']}{GENERATORS[match['name']]()}{match['tail']}", text
    )


def main() -> None:
    """Write every page anew."""
    for path in pages():
        path.write_text(renewed(path.read_text()))


if __name__ == "__main__":
    main()
