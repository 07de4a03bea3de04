"""What a cached value was made of, and the key that follows from it.

A key is the BLAKE3 hash of the task's reference, the version that its author gave, the hash of its
source, its codec, the command and image of a shell task, and one digest per input. Equal inputs
give equal digests in every process: dicts count without their order, JSON as what it says and not
as how it is written, large values and files by the digest of their blobs.

What does not count: where and how a task runs (backend, pool, retries, time limits, resources),
its node's name, and order-only edges.

Rule of this room: pure; a value without bytes is refused, never passed over.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, cast

import msgspec
from blake3 import blake3

from onready.engine.errors import NoCodec
from onready.engine.plan.model import TaskSpec
from onready.engine.spi import Call
from onready.engine.values.stored import Compound, Encoded, Live, Stored

KEY_VERSION: Final = 1
"""Raised when the encoding below changes its meaning: old values are then not found any more."""

_encode: Final = msgspec.msgpack.Encoder(order="deterministic").encode
_INT_LOW: Final = -(2**63)
_INT_HIGH: Final = 2**63 - 1
_CLASSES: Final = frozenset({"data", "enum", "named", "model", "pydantic"})
"""Tags whose content begins with the position of a class in `Encoded.meta` (values/writing.py)."""
_PAIRS: Final = frozenset({"dict", "counter"})
"""Tags whose content is pairs, in an order that two equal values need not share."""
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_]+")


class Ingredients(msgspec.Struct, frozen=True, kw_only=True):
    """All that counts for one value. `inputs` are digests by name; `command` of a shell task.

    `task` is the function's reference; of a function that was loaded from a file by the file's
    name without its folder, so that a moved or checked-out file finds its values.
    """

    task: str
    version: str
    code: str = ""
    codec: str = ""
    command: str = ""
    image: str = ""
    inputs: dict[str, str] = msgspec.field(default_factory=dict)
    format: int = KEY_VERSION

    @property
    def key(self) -> str:
        """The key, in hex (64 characters)."""
        return blake3(_encode(msgspec.structs.asdict(self))).hexdigest()

    @property
    def place(self) -> str:
        """Where the records of this task are, in the catalog: the beginning of their names."""
        short = _UNSAFE.sub("_", re.split(r"[.:/]", self.task)[-1])[:80] or "task"
        return f"cache/{self.format}/{short}-{blake3(self.task.encode()).hexdigest()[:16]}/"

    @property
    def name(self) -> str:
        """The name of this value's record in the catalog."""
        return f"{self.place}{self.key}.json"


def ingredients_of(spec: TaskSpec, inputs: Mapping[str, Stored]) -> Ingredients:
    """The ingredients of one call; NoCodec, naming the input, where one has no stored form."""
    work = spec.work
    chosen = spec.options.get("image", "")
    image = chosen if isinstance(chosen, str) else ""
    if isinstance(work, Call):
        task, command = portable(work.reference), ""
    else:
        task = f"shell:{spec.name}"
        parts = [work.argv, work.environment, work.outputs]
        # By name: a secret that is renewed makes nothing new, another secret does.
        command = blake3(_encode([*parts, work.secrets] if work.secrets else parts)).hexdigest()
        image = work.image or image
    return Ingredients(
        task=task,
        version=spec.cache,
        code=spec.source,
        codec=spec.codec,
        command=command,
        image=image,
        inputs={name: digest_of(value, name) for name, value in inputs.items()},
    )


def portable(reference: str) -> str:
    """A function's reference without the folder of its file."""
    module, colon, name = reference.rpartition(":")
    return f"{module.rpartition('/')[2]}{colon}{name}" if module.endswith(".py") else reference


def digest_of(value: Stored, name: str = "") -> str:
    """BLAKE3, in hex, of a value's canonical form; NoCodec where it has none."""
    try:
        return blake3(_encode(_tree(value))).hexdigest()
    except RecursionError:
        why = "is nested too deeply"
    except NoCodec as error:
        why = f"is a live object ({error}) and has no stored form"
    message = (
        f"input {name!r} of a cached task {why}, so the cache cannot tell one from another. Give "
        "it a type that a codec handles, pass what it is made from, or leave cache= out"
    )
    raise NoCodec(message)


# --- canonical form: scalars as they are, everything else a list that begins with a word --------


def _tree(value: Stored) -> object:
    if type(value) is Encoded:
        data = value.data
        if value.codec == "json" and data is not None:
            try:
                return _json(data, value.meta)
            except (ValueError, LookupError, TypeError, AttributeError):
                pass  # not as our writer makes it: then its bytes count
        digest = value.digest if data is None else blake3(data).hexdigest()
        return ["encoded", value.codec, value.meta, digest]
    if type(value) is Compound:
        items = [_tree(item) for item in value.items]
        if value.kind == "dict":
            return ["dict", _sorted(zip(value.keys, items, strict=True))]
        return [value.kind, items]
    if isinstance(value, Live):
        raise NoCodec(type(value.value).__qualname__)
    return _scalar(value)


def _scalar(value: object) -> object:
    kind = type(value)
    if kind is int:
        number = cast("int", value)
        return number if _INT_LOW <= number <= _INT_HIGH else ["$int", hex(number)]
    if kind is float and not math.isfinite(cast("float", value)):
        return ["$float", repr(value)]
    if kind is str and not cast("str", value).isascii():
        return ["$text", cast("str", value).encode("utf-8", "surrogatepass")]
    return value


def _sorted(pairs: Iterable[tuple[object, object]]) -> list[tuple[object, object]]:
    made = [(_scalar(key) if isinstance(key, str) else key, item) for key, item in pairs]
    return sorted(made, key=lambda pair: _encode(pair[0]))


def _json(data: bytes, meta: str) -> object:
    """What some JSON says; `meta` has the classes that its tags count into, "" without tags."""
    tree: object = json.loads(data)
    if not meta:
        return _plain(tree)
    classes = cast("list[str]", json.loads(meta))
    return _tagged(tree, classes)


def _plain(tree: Any) -> object:
    if isinstance(tree, dict):
        return ["dict", _sorted((name, _plain(item)) for name, item in tree.items())]
    if isinstance(tree, list):
        return ["list", [_plain(item) for item in tree]]
    return _scalar(tree)


def _tagged(tree: Any, classes: list[str]) -> object:
    def walk(inner: Any) -> object:
        return _tagged(inner, classes)

    if isinstance(tree, list):
        return ["list", [walk(item) for item in tree]]
    if not isinstance(tree, dict):
        return _scalar(tree)
    tag = next(iter(tree)) if len(tree) == 1 else ""
    if tag.startswith("$"):
        return _special(tag[1:], tree[tag], classes, walk)
    return ["dict", _sorted((name, walk(item)) for name, item in tree.items())]


def _special(name: str, content: Any, classes: list[str], walk: Callable[[Any], object]) -> object:
    if name == "tuple":
        return ["tuple", [walk(item) for item in content]]
    if name in _PAIRS:
        return [name, _sorted((walk(key), walk(item)) for key, item in content)]
    if name == "defaultdict":
        pairs = ((walk(key), walk(item)) for key, item in content[1])
        return ["$defaultdict", content[0], _sorted(pairs)]
    if name in _CLASSES:
        return [f"${name}", classes[content[0]], *(walk(item) for item in content[1:])]
    if name == "leaf":
        codec, meta, data = content
        return ["encoded", codec, meta, blake3(base64.b64decode(data)).hexdigest()]
    return [f"${name}", walk(content)]
