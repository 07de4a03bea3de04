"""Files and folders as values: `File`, `Dir` and `pathlib.Path`, moved through the catalog.

Before it is moved such a value is `Encoded("path", <local path>)`: good in this machine and this
moment only, so `settle` must turn it into `file` or `dir` before it is kept. `bring` turns it
back into `path` in a folder of the consumer's own.

Rule of this room: what the types are; the moving is in `moving.py`, archives in `archive.py`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onready.engine.values.misfit import no_codec

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema


class _Place:
    """What File and Dir share: an immutable path."""

    __slots__ = ("path",)
    path: Path

    def __init__(self, path: str | os.PathLike[str]) -> None:
        object.__setattr__(self, "path", Path(path))

    def __setattr__(self, name: str, value: object) -> None:
        message = f"a {type(self).__name__} cannot be changed"
        raise AttributeError(message)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Place) or type(other) is not type(self):
            return NotImplemented
        return self.path == other.path

    def __hash__(self) -> int:
        return hash((type(self), self.path))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return type(self), (str(self.path),)

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Instances as they are; a text or a path where a value is read."""
        del source, handler
        from pydantic_core import core_schema

        def read(value: Any) -> object:
            return cls(value)

        texts = core_schema.union_schema(
            [core_schema.str_schema(strict=True), core_schema.is_instance_schema(Path)]
        )
        convert = core_schema.no_info_after_validator_function(read, texts)
        return core_schema.union_schema(
            [core_schema.is_instance_schema(cls), convert], mode="left_to_right"
        )


class File(_Place):
    """A file as a value: its content travels through the catalog.

    A node that returns `File(path)` hands the file on; a node that takes a File gets a copy of
    its own (mode 0600) with the same name, in its scratch folder, that it may change.
    """

    __slots__ = ()


class Dir(_Place):
    """A folder as a value: its files travel through the catalog as one archive.

    Only files and folders: a link or anything else in it is an error. Contents, names and
    executable bits are kept; times and owners are not, so that equal folders are one blob.
    """

    __slots__ = ()


_TYPES = {"File": File, "Dir": Dir, "Path": Path}


class PathCodec:
    """The local form of files and folders."""

    name = "path"

    def handles(self, kind: type, /) -> bool:
        """File, Dir and the concrete class of Path."""
        return kind in {File, Dir} or kind is type(Path())

    def encode(self, value: object, /) -> tuple[bytes, str]:
        """The absolute path; whether something is there is seen when it is moved."""
        name = "Path" if isinstance(value, Path) else type(value).__name__
        if not isinstance(value, Path | File | Dir):  # pragma: no cover - handles() let it pass
            raise no_codec(type(value))
        path = os.fsencode(value)
        if not path.startswith(b"/"):
            path = os.path.join(os.getcwdb(), path)  # noqa: PTH109, PTH118 - Path knows no bytes
        return path, name

    def decode(self, data: bytes, meta: str, /) -> object:
        """File, Dir or Path of the local path."""
        return _TYPES[meta](os.fsdecode(data))
