"""Codecs: the protocol, the built-in ones, and those of plug-ins.

Built-in codecs of optional libraries are looked at only for classes of such a library, so none is
ever imported for a value that does not need it. Plug-ins (entry-point group `onready.codecs`, a
class or an instance per entry) are asked only when nothing built in fits.

Rule of this room: looking up, nothing else. Stored data can name a codec, never a class of one.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Final, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

from onready.engine.errors import PluginError

GROUP: Final = "onready.codecs"
_HOME: Final = "onready.engine.values"
_BUILT_IN: Final = {
    "path": "files:PathCodec",
    "bytes": "raw:BytesCodec",
    "numpy": "arrays:NumpyCodec",
    "pandas": "tables:PandasCodec",
    "polars": "tables:PolarsCodec",
    "pyarrow": "tables:ArrowCodec",
    "pickle": "pickled:PickleCodec",
    "secret": "secret:SecretCodec",
}
_PACKAGES: Final = {
    "pathlib": ("path",),
    "onready": ("path", "secret"),
    "numpy": ("numpy",),
    "pandas": ("pandas",),
    "polars": ("polars",),
    "pyarrow": ("pyarrow",),
}
RESERVED: Final = frozenset({*_BUILT_IN, "json", "file", "dir", "parts"})


@runtime_checkable
class Codec(Protocol):
    """Gives values of some classes a durable form.

    `name` is the entry point's name; it is kept with every value, so never change what an old
    name decodes. `encode` gives bytes and a short text of its own, `decode` takes both back and
    gives a fresh, equal value; neither may run code that the bytes name.
    """

    @property
    def name(self) -> str: ...

    def handles(self, kind: type, /) -> bool:
        """Whether it takes values whose exact class is `kind`."""
        ...

    def encode(self, value: object, /) -> tuple[bytes, str]: ...

    def decode(self, data: bytes, meta: str, /) -> object: ...


_by_class: Final[WeakKeyDictionary[type, Codec | None]] = WeakKeyDictionary()


def leaf_codec(kind: type) -> Codec | None:
    """The codec for values of class `kind` that JSON has no form for, or None."""
    if kind in _by_class:
        return _by_class[kind]
    found = _find(kind)
    _by_class[kind] = found
    return found


def _find(kind: type) -> Codec | None:
    for base in kind.__mro__:
        for name in _PACKAGES.get(base.__module__.partition(".")[0], ()):
            codec = _built_in(name)
            if codec.handles(kind):
                return codec
    for codec in _plugins().values():
        if codec.handles(kind):
            return codec
    return None


def named_codec(name: str) -> Codec:
    """The codec of that name; PluginError says what there is."""
    if name in _BUILT_IN:
        return _built_in(name)
    codec = _plugins().get(name)
    if codec is None:
        names = ", ".join(sorted([*_BUILT_IN, *_plugins()]))
        message = f"no codec is named {name!r} (entry-point group {GROUP}); there are: {names}"
        raise PluginError(message)
    return codec


@cache
def _built_in(name: str) -> Codec:
    module, _, attribute = _BUILT_IN[name].partition(":")
    codec: Codec = getattr(importlib.import_module(f"{_HOME}.{module}"), attribute)()
    return codec


def load_plugins() -> None:
    """Find and import the codec plug-ins now: in a thread, before an event loop needs them."""
    _plugins()


@cache
def _plugins() -> dict[str, Codec]:
    from importlib.metadata import entry_points  # slow to import, and rarely needed

    result: dict[str, Codec] = {}
    for entry in entry_points(group=GROUP):
        if entry.name in RESERVED or entry.name in result:
            message = f"two codecs are named {entry.name!r} ({GROUP}): {entry.value} is one of them"
            raise PluginError(message)
        try:
            loaded = entry.load()
        except Exception as error:
            message = f"the codec {entry.name!r} ({entry.value}) does not load: {error}"
            raise PluginError(message) from error
        codec = loaded() if isinstance(loaded, type) else loaded
        if not isinstance(codec, Codec) or codec.name != entry.name:
            message = f"{entry.value} is no codec named {entry.name!r}: see {_HOME}.codec.Codec"
            raise PluginError(message)
        result[entry.name] = codec
    return result
