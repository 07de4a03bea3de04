"""No code comes out of data: no pickle, eval, exec, shell or unsafe YAML in the product.

The audit reads syntax trees. One file may use pickle: the codec that a user opts in to.
"""

from __future__ import annotations

import ast

import pytest

from tests.project.tree import ROOT, dotted, product, short, tree_of

ALLOWED = {"engine/values/pickled.py": {"pickle"}}

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
    "subprocess.getoutput",
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
}
METHODS = {"to_pickle", "read_pickle", "create_subprocess_shell"}
TRUE_KEYWORDS = {"shell", "allow_pickle"}
STARTERS = {"run", "call", "check_call", "check_output", "Popen", "run_process", "open_process"}
NAMES = {"ProcessPoolExecutor", "UnsafeLoader", "FullLoader", "UnsafeDumper"}


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
    found = [name] if name in CALLS else []
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
