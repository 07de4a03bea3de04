"""What is known of one of the user's functions, worked out once: parameters, annotations, place.

All copies of a task (`with_options`) share one Function, so that a graph of 100,000 calls
inspects a signature once.

Rule of this room: looks at functions, never calls them. Annotations are resolved when first
needed, and one that cannot be resolved means "any value", never an error.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from onready.engine.graph.codes import Code, did_you_mean
from onready.engine.graph.locate import here, place_of
from onready.engine.graph.markers import ProvidedObject
from onready.engine.values.secret import SecretRef

MISSING: Final = inspect.Parameter.empty
"""Stands for "no annotation" and "no default"."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter. `provided` names the live object that it receives, "" for an input."""

    name: str
    default: object = MISSING
    provided: str = ""
    keyword_only: bool = False

    @property
    def required(self) -> bool:
        """Whether a call must give it."""
        return self.default is MISSING


class Function:
    """A function with its parameters, in the form in which calls in a graph need them."""

    def __init__(self, fn: Callable[..., object], role: str) -> None:
        self.fn = fn
        self.location = place_of(_innermost(fn)) or here()
        self.label = plain_name(fn)
        self.is_async = _is_coroutine_function(fn)
        self._check_kind(role)
        signature = self._signature(role)
        self.keywords = False
        self.parameters: dict[str, Parameter] = {}
        for parameter in signature.parameters.values():
            self._add(parameter, role)
        self.order = tuple(p.name for p in self.parameters.values() if not p.keyword_only)
        self.required = frozenset(p.name for p in self.parameters.values() if p.required)
        self.provided = tuple(p for p in self.parameters.values() if p.provided)
        self.secrets = {
            p.name: p.default for p in self.parameters.values() if type(p.default) is SecretRef
        }
        # A call that gives exactly these by position needs no further look.
        self.plain = self.order if len(self.order) == len(self.parameters) else None

    def _check_kind(self, role: str) -> None:
        fn = _innermost(self.fn)
        if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
            message = f"{self.label} is a generator, so it has no one result"
            raise Code.G040.error(message, self.location, "Return a list of what it yields.")
        if role == "graph" and self.is_async:
            message = f"the graph {self.label} is an `async def`"
            cure = "Write `def`: a graph function only says what to call, it waits for nothing."
            raise Code.G040.error(message, self.location, cure)

    def _signature(self, role: str) -> inspect.Signature:
        try:
            return inspect.signature(self.fn)
        except (TypeError, ValueError) as error:
            message = f"{self.label} has no signature that can be read, so it cannot be a {role}"
            cure = "Wrap it: a function with named parameters that calls it."
            raise Code.G040.error(message, self.location, cure) from error

    def _add(self, parameter: inspect.Parameter, role: str) -> None:
        kind = parameter.kind
        if kind is inspect.Parameter.VAR_KEYWORD and role == "task":
            self.keywords = True
            return
        if kind in {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}:
            message = f"the {role} {self.label} takes {parameter}: its inputs have no names"
            cure = "Take one parameter that is a list or a dict."
            raise Code.G040.error(message, self.location, cure)
        if kind is inspect.Parameter.POSITIONAL_ONLY:
            message = f"the {role} {self.label} takes {parameter.name!r} by position only"
            cure = "Leave out the `/`: nodes are given their inputs by name."
            raise Code.G040.error(message, self.location, cure)
        default = parameter.default
        provided = default.name if isinstance(default, ProvidedObject) else ""
        if provided and role == "graph":
            message = f"the graph {self.label} has a provided parameter, {parameter.name!r}"
            cure = "Provide the object to the task that uses it."
            raise Code.G042.error(message, self.location, cure)
        keyword_only = kind is inspect.Parameter.KEYWORD_ONLY
        self.parameters[parameter.name] = Parameter(parameter.name, default, provided, keyword_only)

    # --- annotations --------------------------------------------------------------------------

    @functools.cached_property
    def hints(self) -> Mapping[str, object]:
        """Resolved annotations by parameter name, and `return`; absent = any value."""
        return resolve_hints(_innermost(self.fn))

    def accepts(self, name: str) -> object:
        """The annotation of a parameter, or MISSING."""
        return self.hints.get(name, MISSING)

    @property
    def returns(self) -> object:
        """The annotation of the result, or MISSING."""
        return self.hints.get("return", MISSING)

    # --- calls --------------------------------------------------------------------------------

    def arrange(
        self, args: tuple[object, ...], kwargs: Mapping[str, object], *, partly: bool = False
    ) -> dict[str, object]:
        """The inputs of one call by name, in the order of the signature.

        Raises GraphError for unknown, double and, unless `partly`, missing inputs.
        """
        if not kwargs and self.plain is not None and len(args) == len(self.plain):
            return dict(zip(self.plain, args, strict=True))
        if len(args) > len(self.order):
            raise self._too_many(len(args))
        given = dict(zip(self.order, args, strict=False))
        for name, value in kwargs.items():
            if name in given:
                message = f"{self.label} is given {name!r} twice, by position and by name"
                raise Code.G004.error(message, here())
            if name not in self.parameters and not self.keywords:
                raise self._unknown(name)
            given[name] = value
        if not partly and not self.required <= given.keys():
            raise self._missing(
                [name for name in self.parameters if name in self.required - given.keys()]
            )
        if kwargs:
            ordered = {name: given[name] for name in self.parameters if name in given}
            return ordered | given if self.keywords else ordered
        return given

    def _too_many(self, count: int) -> Exception:
        message = f"{self.label} is given {count} inputs by position and takes {len(self.order)}"
        cure = f"It takes: {', '.join(self.order) or 'none'}."
        return Code.G004.error(message, here(), cure)

    def _unknown(self, name: str) -> Exception:
        return Code.G003.error(
            f"{self.label} has no input {name!r}",
            here(),
            did_you_mean(name, self.parameters),
        )

    def _missing(self, names: list[str]) -> Exception:
        listed = ", ".join(repr(name) for name in names)
        message = f"{self.label} is not given {listed}"
        cure = f"Give {'them' if len(names) > 1 else 'it'}, or give the parameter a default."
        return Code.G002.error(message, here(), cure)


def plain_name(fn: object) -> str:
    """What a function is called in messages, and its node's name: `lambda` for a lambda."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    name = getattr(fn, "__name__", None)
    if not isinstance(name, str):
        name = type(fn).__name__
    return "lambda" if name == "<lambda>" else name


def _innermost(fn: Callable[..., object]) -> Callable[..., object]:
    """The Python function that does the work: under partials, or a callable object's `__call__`."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    if isinstance(fn, types.FunctionType | types.MethodType | types.BuiltinFunctionType | type):
        return fn
    method: Callable[..., object] = type(fn).__call__
    return method


def _is_coroutine_function(fn: Callable[..., object]) -> bool:
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(_innermost(fn))


def resolve_hints(owner: object) -> dict[str, object]:
    """Annotations of a function or a class, those that resolve.

    One name that does not resolve (a class defined inside a function) must not hide the others,
    so each annotation is tried alone when all at once fails.
    """
    names = _closure_names(owner)
    try:
        return typing.get_type_hints(owner, localns=names, include_extras=True)
    except Exception:  # noqa: BLE001 - annotations are the user's code: anything may go wrong
        return _resolve_singly(owner, names)


def _resolve_singly(owner: object, names: dict[str, object]) -> dict[str, object]:
    found: dict[str, object] = {}
    scope = getattr(inspect.unwrap(owner) if callable(owner) else owner, "__globals__", {})
    annotations: Mapping[str, object] = getattr(owner, "__annotations__", {})
    for name, annotation in annotations.items():
        one = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            found.update(
                typing.get_type_hints(one, globalns=scope, localns=names, include_extras=True)
            )
        except Exception:  # noqa: BLE001, S112 - as above; unresolved means any value
            continue
    return found


def _closure_names(owner: object) -> dict[str, object]:
    code = getattr(owner, "__code__", None)
    cells = getattr(owner, "__closure__", None)
    if code is None or not cells:
        return {}
    names: dict[str, object] = {}
    for name, cell in zip(code.co_freevars, cells, strict=True):
        try:
            names[name] = cell.cell_contents
        except ValueError:  # not bound yet
            continue
    return names


def annotation_text(annotation: object) -> str:
    """An annotation as people write it; "" for none."""
    if annotation is MISSING:
        return ""
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__qualname__
    return inspect.formatannotation(annotation).replace("typing.", "")
