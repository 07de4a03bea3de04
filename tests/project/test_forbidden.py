"""F29: no code comes out of data: no pickle, eval, exec, shell or unsafe YAML in the product.

The audit reads syntax trees. One file may use pickle: the codec that a user opts in to. Modules
that are named at run time are imported by three files alone, which take entry points and the
references of plans; no package that we need brings a pickler with it.
"""

from __future__ import annotations

import ast
import contextlib
import sys
from importlib import metadata
from typing import get_args

import pytest
from packaging.requirements import Requirement

from onready.engine import registry
from onready.engine.errors import PluginError
from tests.project.tree import ROOT, dotted, product, short, tree_of

ALLOWED = {"engine/values/pickled.py": {"pickle"}}

LOADERS = {
    "engine/registry.py": "entry points of the declared groups",
    "engine/values/codec.py": "entry points of onready.codecs, and built-in codecs from a table",
    "engine/loading.py": "the references of a plan: the user's own functions",
}
"""Who may import what is only named at run time."""
PICKLERS = {"dill", "cloudpickle", "jsonpickle", "pickle5", "joblib"}
"""Distributions that make code of data; none may come with a plain install."""

MODULES = {
    "pickle",
    "_pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "marshal",
    "shelve",
    "jsonpickle",
    # These move objects as pickles between processes.
    "multiprocessing",
    "concurrent.futures.process",
}
CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "os.system",
    "os.popen",
    "commands.getoutput",
    "subprocess.getstatusoutput",
    "asyncio.create_subprocess_shell",
    "yaml.load",
    "yaml.load_all",
    "yaml.full_load",
    "yaml.full_load_all",
    "yaml.unsafe_load",
    "yaml.unsafe_load_all",
    "pandas.read_pickle",
    "pd.read_pickle",
    "joblib.load",
    "tempfile.mktemp",
    "runpy.run_module",
    "runpy.run_path",
    "code.interact",
    "os.execv",
    "os.execve",
    "os.execvp",
    "os.execvpe",
    "os.spawnv",
    "os.spawnlp",
    "subprocess.getoutput",
}
MAKERS = {"FunctionType", "CodeType"}
"""To look for their instances is fine, to make one is not."""
METHODS = {"to_pickle", "read_pickle", "create_subprocess_shell"}
TRUE_KEYWORDS = {"shell", "allow_pickle"}
STARTERS = {"run", "call", "check_call", "check_output", "Popen", "run_process", "open_process"}
NAMES = {
    "ProcessPoolExecutor",
    "UnsafeLoader",
    "FullLoader",
    "UnsafeDumper",
    "CUnsafeLoader",
    "CFullLoader",
    "Unpickler",
    "InteractiveInterpreter",
}


def findings(tree: ast.AST) -> list[tuple[int, str]]:
    """Every forbidden construct: its line and what it is."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        found.extend((getattr(node, "lineno", 0), what) for what in _forbidden(node))
    return found


def _forbidden(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names if _listed(alias.name)]
    if isinstance(node, ast.ImportFrom):
        module = node.module or ""
        names = [f"{module}.{alias.name}" for alias in node.names]
        return [name for name in names if _listed(name) or name in CALLS or _last(name) in NAMES]
    if isinstance(node, ast.Call):
        return _forbidden_call(node)
    if isinstance(node, ast.Name | ast.Attribute) and _last(dotted(node)) in NAMES:
        return [dotted(node)]
    return []


def _forbidden_call(node: ast.Call) -> list[str]:
    name = dotted(node.func)
    found = [name] if name in CALLS or _last(name) in MAKERS else []
    if isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
        found.append(node.func.attr)
    found += [
        f"{keyword.arg}="
        for keyword in node.keywords
        if keyword.arg in TRUE_KEYWORDS and _may_be_true(keyword.value, _last(name))
    ]
    if name.endswith("import_module") and node.args:
        argument = node.args[0]
        if isinstance(argument, ast.Constant) and _listed(str(argument.value)):
            found.append(str(argument.value))
    return found


def dynamic_imports(tree: ast.AST) -> list[int]:
    """The lines where a module is imported, or an entry point loaded, whose name is not written."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _is_dynamic(node, _last(dotted(node.func)))
    ]


def _is_dynamic(node: ast.Call, called: str) -> bool:
    if called == "import_module":
        return not (node.args and isinstance(node.args[0], ast.Constant))
    return called in {"entry_points", "exec_module", "spec_from_file_location", "load_module"}


def _may_be_true(value: ast.expr, called: str) -> bool:
    if isinstance(value, ast.Constant):
        # In Capabilities, `shell` says which work a backend takes.
        return bool(value.value) and called != "Capabilities"
    return called in STARTERS


def _listed(name: str) -> bool:
    return any(name == module or name.startswith(module + ".") for module in MODULES)


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def test_product_code_makes_no_code_of_data() -> None:
    found = [
        f"{short(path)}:{line} {what}"
        for path in product()
        for line, what in findings(tree_of(path))
        if what not in ALLOWED.get(short(path), set[str]())
    ]
    assert found == []


def test_the_allow_list_names_files_that_exist_and_need_it() -> None:
    for name, allowed in ALLOWED.items():
        path = ROOT / name
        assert path.exists(), f"{name} is allow-listed and not there"
        assert {what for _, what in findings(tree_of(path))} == allowed


def test_modules_named_at_run_time_are_imported_by_the_loaders_alone() -> None:
    found = {short(path) for path in product() if dynamic_imports(tree_of(path))}
    assert found == set(LOADERS)


def test_plug_ins_come_from_declared_entry_points_alone() -> None:
    """A setting names an entry point; it is never a module, a file or a function by itself."""
    groups = (registry.BACKENDS, registry.RUN_LOGS, registry.CATALOGS, registry.SECRETS)
    for spec in ("os:system", "json", "tests.project.tree:product", "../x.py:f", "builtins:eval"):
        before = set(sys.modules)
        for group in groups:
            with pytest.raises(PluginError, match="no plug-in"):
                registry.load(group, spec)
            with pytest.raises(PluginError, match="no plug-in"):
                registry.load(group, spec.partition(":")[0])
        assert {name for name in set(sys.modules) - before if "tests.project" in name} == set()
    assert set(get_args(registry.Group)) == {*groups, registry.CODECS}


def test_no_pickler_comes_with_a_plain_install() -> None:
    todo, seen = ["onready"], set[str]()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        with contextlib.suppress(metadata.PackageNotFoundError):
            for text in metadata.requires(name) or []:
                needed = Requirement(text)
                if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                    todo.append(needed.name.lower())
    assert len(seen) > 15
    assert seen & PICKLERS == set()


@pytest.mark.parametrize(
    "source",
    [
        "import_module(name)",
        "importlib.import_module(f'{x}.y')",
        "metadata.entry_points(group='x')",
        "spec.loader.exec_module(module)",
        "importlib.util.spec_from_file_location('x', path)",
    ],
)
def test_the_audit_sees_imports_by_name(source: str) -> None:
    assert dynamic_imports(ast.parse(source)) == [1]
    assert dynamic_imports(ast.parse("importlib.import_module('json')")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import os, marshal",
        "from cloudpickle import dumps",
        "from multiprocessing.connection import Pipe",
        "from concurrent.futures import ProcessPoolExecutor",
        "import concurrent.futures as f\nf.ProcessPoolExecutor()",
        "eval('1')",
        "exec(text)",
        "compile(text, 'x', 'exec')",
        "__import__(name)",
        "import os\nos.system('x')",
        "subprocess.run('x', shell=True)",
        "subprocess.run('x', shell=flag)",
        "await loop.create_subprocess_shell('x')",
        "yaml.load(text)",
        "yaml.load(text, Loader=yaml.UnsafeLoader)",
        "from yaml import load",
        "numpy.load(path, allow_pickle=True)",
        "frame.to_pickle(path)",
        "importlib.import_module('dill')",
        "runpy.run_path(path)",
        "pickle.Unpickler(file)",
        "yaml.load(text, yaml.CUnsafeLoader)",
        "types.FunctionType(code, {})",
    ],
)
def test_the_audit_sees_what_is_planted(source: str) -> None:
    assert findings(ast.parse(source)) != []


@pytest.mark.parametrize(
    "source",
    [
        "yaml.safe_load(text)",
        "re.compile('x')",
        "numpy.load(path, allow_pickle=False)",
        "f(shell=False)",
    ],
)
def test_the_audit_lets_the_safe_forms_pass(source: str) -> None:
    assert findings(ast.parse(source)) == []
