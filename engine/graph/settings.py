"""Options of tasks and shell commands: their checks, and the frozen form that tasks carry.

Rule of this room: checks what can be judged without knowing the backends; those that need a
backend's word are the compiler's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import EllipsisType
from typing import Final, cast

import msgspec

from onready.engine.errors import GraphError
from onready.engine.graph.codes import Code, did_you_mean
from onready.engine.graph.locate import here
from onready.engine.names import is_name
from onready.engine.options import Resources, Retry, RetryPolicy

OptionValue = str | int | float | bool | list[str] | dict[str, str]
"""What an option of a backend may be."""

FIRST_VERSION: Final = "1"
"""What `cache=True` stands for."""

LONGEST_VERSION: Final = 128
"""Characters of the version of a cached task, at most."""

Unset = EllipsisType
"""`...` as the default of an option in `with_options`: leave it as it is."""


class TaskOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a task runs. Times in seconds; an empty `backend` means the default of its kind.

    `cache` is the version text of a cached task, "" for one that always runs. `extra` are options
    of the backend's own, by name, in sorted order; `image` is the one of them that many backends
    share, and is never in `extra` too.
    """

    backend: str = ""
    retry: RetryPolicy = RetryPolicy()
    timeout: float | None = None
    node_timeout: float | None = None
    pool: str = ""
    resources: Resources = Resources()
    codec: str = ""
    cache: str = ""
    image: str = ""
    extra: tuple[tuple[str, object], ...] = ()


def read_options(given: Mapping[str, object], base: TaskOptions) -> TaskOptions:
    """`base` with the options that are given, so not `...`; GraphError on bad values."""
    changes: dict[str, object] = {}
    for name, value in given.items():
        if value is ... or name == "options":
            continue
        if name in _CHECKS:
            changes[name] = _CHECKS[name](name, value)
        else:
            known = (*_CHECKS, "options")
            message = f"there is no option {name!r}"
            raise Code.G041.error(message, here(), did_you_mean(name, known))
    if given.get("options", ...) is not ...:
        _take_options(given["options"], changes)
    return msgspec.structs.replace(base, **changes) if changes else base


def _take_options(value: object, changes: dict[str, object]) -> None:
    """Options of the backend; an image among them is the one that `image=` gives."""
    extra = dict(_extra(value))
    image = extra.pop("image", None)
    changes["extra"] = tuple(extra.items())
    if image is None:
        return
    image = _image("options['image']", image)
    if changes.setdefault("image", image) != image:
        message = f"image={changes['image']!r:.80} and options={{'image': {image!r:.80}}} differ"
        raise Code.G041.error(message, here(), "Give the image once.")


def _bad(name: str, value: object, cure: str) -> GraphError:
    return Code.G041.error(f"{name}={value!r:.80} cannot be", here(), cure)


def seconds(name: str, value: object) -> float | None:
    """A time limit: seconds above zero, or None for no limit."""
    if value is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(cast("float", value)) or cast("float", value) <= 0:
        raise _bad(name, value, "Give seconds, more than 0, or None for no limit.")
    return float(cast("float", value))


def _retry(name: str, value: object) -> RetryPolicy:
    if isinstance(value, Retry):
        return value.policy
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return RetryPolicy(value)
    cure = "Give the number of retries, from 0, or Retry(3, backoff=1.0)."
    raise _bad(name, value, cure)


def word(name: str, value: object) -> str:
    """A name of a backend, a pool or a codec; "" for none."""
    if isinstance(value, str) and (not value or is_name(value)):
        return value
    raise _bad(name, value, "Give a name: letters, digits, `_`, `.` and `-`.")


def _image(name: str, value: object) -> str:
    """The name of an image; "" for the backend's own. What names one is the backend's to judge."""
    if isinstance(value, str):
        return value
    raise _bad(name, value, 'Give the name of an image: image="python:3.12".')


def _cache(name: str, value: object) -> str:
    """The version of a cached task: True is the first one, False none at all."""
    if isinstance(value, bool):
        return FIRST_VERSION if value else ""
    if isinstance(value, str) and len(value) <= LONGEST_VERSION and value.isprintable():
        return value
    cure = f'Give True, or a text of at most {LONGEST_VERSION} characters: cache="v2".'
    raise _bad(name, value, cure)


def _resources(name: str, value: object) -> Resources:
    if isinstance(value, Resources):
        return value
    raise _bad(name, value, 'Give Resources(cpu=1, memory="512Mi").')


def limit_of(value: object) -> int:
    """How many items of a map run at once; 0 for no bound."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    message = "limit"
    raise _bad(message, value, "Give a whole number from 1; 0 for no bound.")


def truth(name: str, value: object) -> bool:
    """A switch: True or False."""
    if isinstance(value, bool):
        return value
    raise _bad(name, value, "Give True or False.")


_SCALARS = (str, int, float, bool)


def _extra(value: object) -> tuple[tuple[str, object], ...]:
    """Backend options, frozen: dicts and lists become tuples, so that options compare and hash."""
    if not isinstance(value, Mapping):
        message = "options"
        raise _bad(message, value, 'Give a dict: options={"queue": "short"}.')
    frozen: list[tuple[str, object]] = []
    for name, item in cast("Mapping[object, object]", value).items():
        if not isinstance(name, str):
            message = "options"
            raise _bad(message, value, "Names of options are texts.")
        frozen.append((name, _freeze(name, item)))
    return tuple(sorted(frozen, key=lambda pair: pair[0]))


def _freeze(name: str, item: object) -> object:
    if isinstance(item, _SCALARS):
        return item
    if isinstance(item, list):
        parts = cast("list[object]", item)
        if all(isinstance(part, str) for part in parts):
            return ("list", *parts)
    if isinstance(item, dict):
        pairs = cast("dict[object, object]", item).items()
        if all(isinstance(key, str) and isinstance(part, str) for key, part in pairs):
            return ("dict", *sorted(cast("dict[str, str]", item).items()))
    cure = "Give a text, a number, a list of texts, or a dict of texts."
    message = f"options[{name!r}]"
    raise _bad(message, item, cure)


def thaw(options: TaskOptions) -> dict[str, OptionValue]:
    """Backend options as the plan writes them down."""
    made: dict[str, OptionValue] = {}
    own = (("image", options.image),) if options.image else ()
    for name, item in sorted((*own, *options.extra), key=lambda pair: pair[0]):
        if isinstance(item, tuple):
            kind, *parts = cast("tuple[str, *tuple[object, ...]]", item)
            made[name] = (
                cast("list[str]", parts)
                if kind == "list"
                else dict(cast("list[tuple[str, str]]", parts))
            )
        else:
            made[name] = cast("OptionValue", item)
    return made


_CHECKS = {
    "backend": word,
    "retry": _retry,
    "timeout": seconds,
    "node_timeout": seconds,
    "pool": word,
    "resources": _resources,
    "codec": word,
    "cache": _cache,
    "image": _image,
}
