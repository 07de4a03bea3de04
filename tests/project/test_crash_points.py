"""Every effect has a crash point before and after it: an audit of the syntax trees.

An effect is what another process, or this one after a crash, can find: a file that gets a name, a
transaction, a sync, a process. F2: a new effect without a point fails here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from onready.engine.crashpoints import POINTS
from tests.project.tree import ROOT, dotted, product, short, tree_of

CALLS = {
    "os.fdatasync",
    "os.fork",
    "os.fsync",
    "os.link",
    "os.posix_spawn",
    "os.rename",
    "os.renames",
    "os.replace",
    "os.symlink",
    "os.unlink",
    "os.remove",
    "os.write",
    "os.writev",
    "os.pwrite",
    "shutil.copyfile",
    "shutil.move",
    "subprocess.Popen",
    "subprocess.run",
    "subprocess.call",
    "subprocess.check_call",
    "subprocess.check_output",
    "anyio.open_process",
    "anyio.run_process",
    "asyncio.create_subprocess_exec",
    "asyncio.create_subprocess_shell",
    "library.spawn",
    "tempfile.mkstemp",
    "tempfile.NamedTemporaryFile",
}
"""Calls that are effects, as they are written."""

METHODS = {"write_text", "write_bytes", "touch", "hardlink_to", "symlink_to", "commit", "rename"}
"""Methods that are effects, of whatever they are called."""

STATEMENTS = ("BEGIN", "COMMIT")
"""What an SQL text begins with that is one."""

SCRATCH = "in an attempt's scratch folder, which nobody looks into after a crash"
CALLERS = "its callers have the points: it is given a descriptor"

COVERED = {
    "engine/logs.py:LogWriter._append": "output of attempts: nothing follows from it, "
    "a torn end is cut off",
    "engine/logs.py:LogWriter._open": "as LogWriter._append",
    "engine/values/moving.py:_pack": "a temporary file of this process; the catalog copies it",
    "engine/values/moving.py:_bring_path": SCRATCH,
    "engine/values/archive.py:pack": "as _pack: into that file",
    "engine/values/archive.py:unpack": SCRATCH,
    "engine/worker/speaking.py:write_all": CALLERS,
    "backends/text.py:OutputText._spill": SCRATCH,
    "backends/docker/pump.py:LogPump._wake": "wakes a thread of this process",
    "storage/confined.py:Folder.draft": "removes a draft, which has no meaning to anybody",
    "storage/confined.py:Folder.remove": "one call, repeated by whoever did not see it done",
    "storage/files/segments.py:write": CALLERS,
    "storage/files/segments.py:RunFolder.abandon": "a claim that has no meaning to anybody",
    "storage/files/segments.py:Segment.sync": "what somebody else wrote, before it is shown",
    "storage/sqlite/reading.py:Reader.serve": "a transaction that only reads",
}
"""Functions with an effect and no point of their own, and why that is right."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function]]:
    """Every function that is not inside another one, with its qualified name."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function):
            yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from functions(node, f"{prefix}{node.name}.")
        else:
            yield from functions(node, prefix)


def creating_names(tree: ast.Module) -> set[str]:
    """Constants of the module that hold O_CREAT."""
    found: set[str] = set()
    for node in tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        if any(_is_creat(part) for part in ast.walk(node.value)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def _is_creat(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and dotted(node) == "os.O_CREAT"


def effects(node: ast.AST, creating: set[str]) -> list[str]:
    """What in this function is an effect."""
    return [what for part in ast.walk(node) if (what := _effect(part, creating))]


def _effect(node: ast.AST, creating: set[str]) -> str:
    if _is_creat(node) or (isinstance(node, ast.Name) and node.id in creating):
        return "O_CREAT"
    if isinstance(node, ast.Attribute) and dotted(node) in CALLS:
        return dotted(node)  # also where it is handed to a thread
    if not isinstance(node, ast.Call):
        return ""
    if isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
        return f".{node.func.attr}()"
    if isinstance(node.func, ast.Attribute) and node.func.attr in {"execute", "executescript"}:
        text = node.args[0] if node.args else None
        if isinstance(text, ast.Constant) and str(text.value).startswith(STATEMENTS):
            return str(text.value)
    return f"open({_mode(node)!r})" if set(_mode(node)) & set("wxa+") else ""


def _mode(call: ast.Call) -> str:
    """The mode of a call of `open`, the function or the method; "" for other calls."""
    method = isinstance(call.func, ast.Attribute) and call.func.attr == "open"
    if not method and dotted(call.func) not in {"open", "io.open"}:
        return ""
    given = call.args[0 if method else 1 :][:1]
    given += [word.value for word in call.keywords if word.arg == "mode"]
    return str(given[0].value) if given and isinstance(given[0], ast.Constant) else ""


def points_of(node: ast.AST) -> list[ast.Call]:
    """The crash points in this function."""
    calls = [part for part in ast.walk(node) if isinstance(part, ast.Call)]
    return [call for call in calls if dotted(call.func) == "crash_point"]


def audited() -> list[Path]:
    rooms = [ROOT / room for room in ("engine", "backends", "storage")]
    kit = ROOT / "engine" / "testing"
    itself = ROOT / "engine" / "crashpoints.py"
    return [
        path
        for path in product()
        if any(path.is_relative_to(room) for room in rooms)
        and not path.is_relative_to(kit)
        and path != itself
    ]


def uncovered(tree: ast.Module) -> dict[str, list[str]]:
    """Functions, or "the module", with effects and without a crash point."""
    creating = creating_names(tree)
    found: dict[str, list[str]] = {}
    inside: set[int] = set()
    for name, node in functions(tree):
        inside |= {id(part) for part in ast.walk(node)}
        if (seen := effects(node, creating)) and not points_of(node):
            found[name] = seen
    outside = [
        what
        for part in ast.walk(tree)
        if id(part) not in inside
        and isinstance(part, ast.Call)
        and (what := _effect(part, creating))
    ]
    return found | ({"the module": outside} if outside else {})


def test_every_effect_has_a_crash_point() -> None:
    found = {
        f"{short(path)}:{name}": seen
        for path in audited()
        for name, seen in uncovered(tree_of(path)).items()
    }
    missing = {name: seen for name, seen in found.items() if name not in COVERED}
    assert missing == {}, "give them crash points, or say in COVERED why they need none"
    assert set(COVERED) - set(found) == set(), "no effect is there any more"
    assert all(COVERED.values())


def test_points_come_in_pairs_around_an_effect() -> None:
    """In one function, and in this order: before, after."""
    for path in audited():
        for name, node in functions(tree_of(path)):
            names = [point.args[0] for point in points_of(node)]
            texts = [text.value for text in names if isinstance(text, ast.Constant)]
            assert len(texts) == len(names), f"{short(path)}:{name} passes a point by a variable"
            lines = sorted(
                (point.lineno, str(text))
                for point, text in zip(points_of(node), texts, strict=True)
            )
            ordered = [text for _, text in lines]
            befores = [text.removesuffix(".before") for text in ordered[::2]]
            afters = [text.removesuffix(".after") for text in ordered[1::2]]
            assert befores == afters, f"{short(path)}:{name}: {ordered}"


def test_the_registry_has_all_of_them_and_no_other() -> None:
    passed = {
        str(point.args[0].value)
        for path in audited()
        for point in points_of(tree_of(path))
        if isinstance(point.args[0], ast.Constant)
    }
    assert passed == set(POINTS)


@pytest.mark.parametrize(
    "source",
    [
        "import os\ndef f(): os.rename('a', 'b')",
        "import os\ndef f(): os.fsync(1)",
        "import os\nclass C:\n  async def f(self): os.link('a', 'b')",
        "import os\ndef f():\n  def g(): os.open('a', os.O_CREAT)\n  return g",
        "import os\nNEW = os.O_CREAT | os.O_WRONLY\ndef f(): os.open('a', NEW)",
        "import os\ndef f(): return run_sync(os.unlink, 'a')",
        "def f(c): c.execute('COMMIT')",
        "def f(c): c.execute('BEGIN IMMEDIATE')",
        "def f(c): c.commit()",
        "def f(p): p.write_text('x')",
        "def f(p): p.open('ab')",
        "def f(): open('a', mode='w')",
        "import subprocess\ndef f(): subprocess.Popen(['a'])",
        "def f(): library.spawn('a')",
        "import os\nos.rename('a', 'b')",
    ],
)
def test_the_audit_sees_what_is_planted(source: str) -> None:
    assert uncovered(ast.parse(source))


@pytest.mark.parametrize(
    "source",
    [
        "def f(p): p.open('rb')",
        "def f(): open('a')",
        "def f(c): c.execute('SELECT 1')",
        "import os\ndef f():\n  crash_point('spawn.before')\n  os.rename('a', 'b')\n",
    ],
)
def test_the_audit_lets_the_rest_be(source: str) -> None:
    assert uncovered(ast.parse(source)) == {}
