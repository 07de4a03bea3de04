"""Finding a function by its reference: `module:qualname` or `/folder/file.py:qualname`.

Rule of this room: imports the user's code, in the driver, in warm workers and in the one-node
command alike, so that one reference means one thing everywhere. It knows neither graphs nor
plans: what wraps a function is recognised by its `fn` attribute.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import threading
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Final

from onready.engine.errors import GraphError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

FILE_PREFIX: Final = "_onready_file_"
"""Modules loaded from a file are named with this, a hash of the path, and the file's stem."""

_NOT_A_REFERENCE: Final = "G060"
_NO_MODULE: Final = "G061"
_NO_NAME: Final = "G062"
_IMPORT_FAILED: Final = "G063"
_NO_FUNCTION: Final = "G064"

_NO_FILE: Final = (
    "give the path of a Python file; a worker elsewhere needs it at the same path, or an "
    "installed module: package.module:name"
)

_lock: Final = threading.RLock()


def load(reference: str) -> object:
    """The object that `reference` names; a task gives its plain function.

    The module is imported on first use. Raises GraphError with a code and what to do about it:
    G060 not a reference, G061 no such module, G062 no such name in it, G063 its import failed
    (the user's error is the cause).
    """
    found = load_raw(reference)
    plain = getattr(found, "fn", None)
    # By the class's home and not by import: workers must not load the graph layer for this.
    if plain is not None and type(found).__module__.startswith("onready."):
        return plain
    return found


def load_function(reference: str) -> Callable[..., object]:
    """As `load`, for what must be callable: G064 where it is not."""
    found = load(reference)
    if not callable(found):
        message = f"{reference} is a {type(found).__name__}, not a function"
        raise _refused(_NO_FUNCTION, message)
    return found


def load_raw(reference: str) -> object:
    """The object that `reference` names, as it is."""
    place, colon, qualname = reference.rpartition(":")
    if not colon or not place or not qualname:
        message = f"not a reference: {reference!r}"
        raise _refused(_NOT_A_REFERENCE, message, "write module:name or /folder/file.py:name")
    module = load_file(Path(place)) if place.endswith(".py") else _import(place)
    found: object = module
    for part in qualname.split("."):
        if part == "<locals>" or not hasattr(found, part):
            raise _no_attribute(module, place, qualname, found, part)
        found = getattr(found, part)
    return found


def _refused(code: str, message: str, cure: str = "") -> GraphError:
    return GraphError(code, message, None, cure)


def _no_attribute(
    module: ModuleType, place: str, qualname: str, found: object, part: str
) -> GraphError:
    if part == "<locals>":
        cure = "move the function to the top level of its module"
        message = f"{place}:{qualname} is defined inside a function, so it cannot be imported"
        return _refused(_NO_NAME, message, cure)
    import difflib

    near = difflib.get_close_matches(part, [name for name in dir(found) if name[0] != "_"], n=1)
    owner = place if found is module else f"{place}:{getattr(found, '__qualname__', '?')}"
    cure = f"did you mean {near[0]!r}?" if near else ""
    if not cure:
        cure = 'is it defined only under `if __name__ == "__main__"`, or deleted since?'
    return _refused(_NO_NAME, f"{owner} has no {part!r}", cure)


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing != name and not name.startswith(f"{missing}."):
            raise _import_failed(name, error) from error
        cure = "install its package where the worker runs, or run from the folder it is in"
        raise _refused(_NO_MODULE, f"no module named {name!r}", cure) from error
    except Exception as error:
        raise _import_failed(name, error) from error


def _import_failed(name: str, error: Exception) -> GraphError:
    message = f"importing {name} failed: {type(error).__name__}: {error}"
    return _refused(_IMPORT_FAILED, message)


def file_module(path: Path) -> str:
    """The module name under which the file at `path` is imported."""
    digest = hashlib.blake2b(str(path).encode(), digest_size=8).hexdigest()
    stem = "".join(char if char.isalnum() else "_" for char in path.stem)
    return f"{FILE_PREFIX}{digest}_{stem}"


class _Fresh(SourceFileLoader):
    """Compiles a file each time, as a script is: it keeps no byte code and believes none.

    Byte code is taken for that of any source of the same second and size.
    """

    def get_code(self, fullname: str) -> CodeType:
        """The module's code."""
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def load_file(path: Path) -> ModuleType:
    """The module that the file at `path` makes; the file runs once per process.

    Its folder is on `sys.path` while it is imported, as `python file.py` has it, and `__name__`
    is not `__main__`. The module is in `sys.modules`, so that its classes are found by name.
    """
    path = path.resolve()
    name = file_module(path)
    with _lock:
        known = sys.modules.get(name)
        if known is not None:
            return known
        if not path.is_file():
            message = f"no file {path}"
            raise _refused(_NO_MODULE, message, _NO_FILE)
        if path.suffix != ".py":
            message = f"{path} is no Python file"
            raise _refused(_NO_MODULE, message)
        spec = importlib.util.spec_from_file_location(name, path, loader=_Fresh(name, str(path)))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            with _folder_first(str(path.parent)):
                spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[name]
            raise _import_failed(str(path), error) from error
        except BaseException:
            del sys.modules[name]
            raise
        return module


@contextmanager
def _folder_first(folder: str) -> Generator[None]:
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
