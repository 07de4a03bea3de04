"""How a plan names a function, and the hash of its source.

The reference is what `engine.loading` finds the function by, here and in any worker; the hash
makes a plan another plan when the code changed.

Rule of this room: reads source lines through `linecache`, one file once, and runs nothing.
"""

from __future__ import annotations

import functools
import inspect
import linecache
import sys
import tokenize
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FunctionType
from typing import Final
from weakref import WeakKeyDictionary

from blake3 import blake3

from onready.engine.loading import FILE_PREFIX

# Weak: functions that a program makes and drops must not be kept by us.
_cached: Final[WeakKeyDictionary[CodeType, str]] = WeakKeyDictionary()


def reference_of(fn: Callable[..., object]) -> str | None:
    """The reference of a function: `module:qualname`; None where it has none.

    Functions of a script, of `python -m` and of a file that was loaded by its path are named so
    that another process finds them: by the real module name or by the file's absolute path.
    """
    if not isinstance(fn, FunctionType) or "<" in fn.__qualname__:
        return None
    name = fn.__module__
    module = sys.modules.get(name)
    if module is None:
        return None
    if name != "__main__" and not name.startswith(FILE_PREFIX):
        return f"{name}:{fn.__qualname__}"
    spec = getattr(module, "__spec__", None)
    if name == "__main__" and spec is not None:
        return f"{spec.name}:{fn.__qualname__}"
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or not file.endswith(".py"):
        return None
    return f"{Path(file).absolute()}:{fn.__qualname__}"


def source_hash(fn: Callable[..., object]) -> str:
    """BLAKE3, in hex (32 characters), of a function's source; "" where it has no Python code.

    Where the lines are gone (a notebook, generated code) its byte-code is hashed.
    """
    while isinstance(fn, functools.partial):
        fn = fn.func
    fn = inspect.unwrap(fn)
    code = getattr(fn, "__code__", None) or getattr(type(fn).__call__, "__code__", None)
    if not isinstance(code, CodeType):
        return ""
    known = _cached.get(code)
    if known is None:
        known = _cached[code] = blake3(_content(code)).hexdigest(length=16)
    return known


def _content(code: CodeType) -> bytes:
    lines = linecache.getlines(code.co_filename)[code.co_firstlineno - 1 :]
    if lines:
        try:
            return "".join(inspect.getblock(lines)).encode()
        except (SyntaxError, tokenize.TokenError):  # the file changed under us
            pass
    return _byte_code(code)


def _byte_code(code: CodeType) -> bytes:
    parts = [code.co_code, repr(code.co_names).encode()]
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            parts.append(_byte_code(constant))
        elif isinstance(constant, frozenset):
            # Sets print in another order in every process.
            parts.append(repr(sorted(map(repr, constant))).encode())
        else:
            parts.append(repr(constant).encode())
    return b"\0".join(parts)
