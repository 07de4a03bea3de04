"""TARGET: from words on the command line to a graph.

Rule of this room: finds and loads; the user's file is imported by the engine's loader, under the
name that workers will use too.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

from onready.cli.exits import Usage
from onready.cli.flags import MISSING, Flag
from onready.engine.loading import load_file, load_raw
from onready.engine.settings import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onready.engine.graph import Bound, Definition

BUILT_IN: Final = {"hello": "onready.hello:hello"}
HELP: Final = "a target is file.py, file.py:graph, package.module:graph, or hello"


@dataclass(frozen=True, slots=True)
class Target:
    """A graph that was found. `address` is what another process can load it by."""

    address: str
    found: Definition[..., object] | Bound[object]

    @property
    def name(self) -> str:
        """The graph's name."""
        from onready.engine.graph import Bound

        return self.found.name if isinstance(self.found, Bound) else self.found.label

    @property
    def about(self) -> str:
        """The first paragraph of its docstring."""
        text = "" if not hasattr(self.found, "__wrapped__") else self.found.__doc__ or ""
        return " ".join(text.strip().partition("\n\n")[0].split())

    def flags(self) -> list[Flag]:
        """Its parameters."""
        from onready.engine.graph import Bound

        if isinstance(self.found, Bound):
            return _flags_of_bound(self.found)
        function = self.found.function
        return [
            Flag(item.name, function.accepts(item.name), item.default)
            for item in function.parameters.values()
            if not item.provided
        ]

    def bind(self, values: Mapping[str, object]) -> Bound[object]:
        """It with these inputs; the engine checks them when the run starts."""
        from onready.engine.graph import Bound

        if isinstance(self.found, Bound):
            bound = Bound[object](self.found.graph, {**self.found.inputs, **values})
            bound.location = self.found.location
            return bound
        return self.found.bound(dict(values))


def _flags_of_bound(bound: Bound[object]) -> list[Flag]:
    flags: list[Flag] = []
    for name, entry in bound.graph.inputs.items():
        own: object = MISSING if entry.required else entry.default
        flags.append(Flag(name, entry.annotation, bound.inputs.get(name, own)))
    return flags


def find_target(text: str) -> Target:
    """The graph that `text` means. Usage where it means none, or more than one."""
    place, _, name = text.rpartition(":") if ":" in text else (text, "", "")
    if text in BUILT_IN:
        return Target(text, _runnable(load_raw(BUILT_IN[text]), text))
    if place.endswith(".py"):
        path = Path(place)
        if not path.is_file():
            raise Usage(_no_file(path))
        module = load_file(path)
        return _in_module(module, place, str(path.resolve()), name)
    if Path(text).is_dir():
        message = f"{text} is a folder; `onready list {text}` shows the graphs in it"
        raise Usage(message)
    if not name and "." not in text:
        message = (
            f"no target {text!r}{did_you_mean(text, [*BUILT_IN, *_python_files(Path())])}\n  {HELP}"
        )
        raise Usage(message)
    current_folder_first()
    if name:
        return Target(text, _runnable(load_raw(f"{place}:{name}"), text))
    return _in_module(_module(text), text, text, "")


def _module(name: str) -> ModuleType:
    # A reference always names something in a module; every module has a `__name__`.
    load_raw(f"{name}:__name__")
    return sys.modules[name]


def current_folder_first() -> None:
    """As `python -m` does, here and in the processes that we start."""
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
        others = os.environ.get("PYTHONPATH", "")
        os.environ["PYTHONPATH"] = f"{folder}{os.pathsep}{others}" if others else folder


def _no_file(path: Path) -> str:
    folder = path.parent
    hint = did_you_mean(path.name, _python_files(folder)) if folder.is_dir() else ""
    return f"no file {path}{hint}"


def _python_files(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("*.py")]


def _in_module(module: ModuleType, shown: str, address: str, name: str) -> Target:
    if name:
        found = load_raw(f"{address}:{name}")
        return Target(f"{address}:{name}", _runnable(found, f"{shown}:{name}"))
    graphs = graphs_in(module)
    # Of several, the one that is named as its file is: the others are its parts.
    own = Path(address).stem if address.endswith(".py") else address.rpartition(".")[2]
    main = next(iter(graphs)) if len(graphs) == 1 else own
    if main in graphs:
        return Target(f"{address}:{main}", graphs[main])
    if graphs:
        lines = "\n".join(f"  {shown}:{graph}" for graph in graphs)
        message = f"{shown} has {len(graphs)} graphs; name one:\n{lines}"
        raise Usage(message)
    tasks = _tasks_in(module)
    more = f"; its tasks can be named: {shown}:{tasks[0]}" if tasks else ""
    message = f"{shown} has no graph: decorate a function with @graph{more}"
    raise Usage(message)


def graphs_in(module: ModuleType) -> dict[str, Definition[..., object] | Bound[object]]:
    """The graphs that a module defines, by name: those it only imports are left out."""
    from onready.engine.graph import Bound, Graph

    found: dict[str, Definition[..., object] | Bound[object]] = {}
    for name, value in vars(module).items():
        if value in found.values():
            continue
        own = isinstance(value, Graph) and value.__module__ == module.__name__
        if own or isinstance(value, Bound):
            found[name] = value
    return found


def _tasks_in(module: ModuleType) -> list[str]:
    from onready.engine.graph import Task

    return [name for name, value in vars(module).items() if isinstance(value, Task)]


def _runnable(value: object, text: str) -> Definition[..., object] | Bound[object]:
    from onready.engine.graph import Bound, Definition

    if isinstance(value, Definition | Bound):
        return value
    message = f"{text} is a {type(value).__name__}, not a graph: decorate a function with @graph"
    raise Usage(message)
