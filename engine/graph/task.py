"""Tasks: functions of the user that become nodes.

Rule of this room: a task wraps its function and never calls it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any, ParamSpec, Protocol, Self, TypeVar, cast, overload

from onready.engine.errors import GraphError
from onready.engine.graph.body import Argument, Body, Input, Node
from onready.engine.graph.codes import Code
from onready.engine.graph.constants import store
from onready.engine.graph.definition import Definition
from onready.engine.graph.functions import Function, Parameter, annotation_text
from onready.engine.graph.locate import here
from onready.engine.graph.markers import FAILURE
from onready.engine.graph.recorder import input_ref
from onready.engine.graph.refs import Ref
from onready.engine.graph.settings import OptionValue, TaskOptions, Unset, read_options
from onready.engine.options import Resources, Retry
from onready.engine.values.stored import Live, Stored

P = ParamSpec("P")
R = TypeVar("R")

_DEFAULTS = TaskOptions()


class Task(Definition[P, R]):
    """A function that runs as a node. `fn` is the plain function."""

    def __init__(self, function: Function, name: str, options: TaskOptions) -> None:
        super().__init__(function, name)
        self.options = options
        self._bodies: dict[tuple[str, ...], Body] = {}

    @property
    def fn(self) -> Callable[P, R | Coroutine[Any, Any, R]]:
        """The plain function, as it was written."""
        raise NotImplementedError  # pragma: no cover - the two kinds below say which it is

    def with_options(
        self,
        *,
        name: str = "",
        after: Sequence[object] = (),
        limit: int = 0,
        always: bool | Unset = ...,
        retry: Retry | int | Unset = ...,
        timeout: float | Unset | None = ...,
        node_timeout: float | Unset | None = ...,
        backend: str | Unset = ...,
        pool: str | Unset = ...,
        resources: Resources | Unset = ...,
        codec: str | Unset = ...,
        cache: bool | str | Unset = ...,
        image: str | Unset = ...,
        options: Mapping[str, OptionValue] | Unset = ...,
    ) -> Self:
        """A copy with other options; those that are not given stay as they are.

        `name` names the node, once per graph. `after` are results of calls that must end well
        first, for their order alone. `limit` bounds how many items of a map run at once.
        `always`: it runs whatever became of what it waits for, to clean up; only values that it
        takes must be there. The others are those of `task`. GraphError on values that cannot be.
        """
        other = self.changed(name, after, limit, always)
        given: dict[str, object] = {
            "retry": retry,
            "timeout": timeout,
            "node_timeout": node_timeout,
            "backend": backend,
            "pool": pool,
            "resources": resources,
            "codec": codec,
            "cache": cache,
            "image": image,
            "options": options,
        }
        changed = read_options(given, self.options)
        if changed is not self.options:
            other.options = changed
            other._bodies = {}
        return other

    def wants_failure(self, given: Collection[str]) -> bool:
        """Whether a call with these inputs leaves it to the engine to give the failure."""
        return any(p.provided == FAILURE and p.name not in given for p in self.function.provided)

    def body(self, inputs: dict[str, object]) -> Body:
        """A graph of this one node.

        Every parameter whose default can be written down is an input of it; one whose default
        cannot (an open object) is an input only where it is given, so that the function's own
        default serves.
        """
        chosen: list[tuple[Parameter, Stored]] = []
        for parameter, default in self._defaults:
            given = parameter.name in inputs
            if given or not (parameter.provided or isinstance(default, Live)):
                chosen.append((parameter, default))
        extra = [name for name in inputs if name not in self.function.parameters]
        # The name too: copies that differ in it alone share this memory.
        key = (self.node_name, *(parameter.name for parameter, _ in chosen), *extra)
        made = self._bodies.get(key)
        if made is None:
            open_ones = chosen + [
                (Parameter(name), None) for name in extra if self.function.keywords
            ]
            made = self._bodies[key] = self._one_node(open_ones)
        return made

    @functools.cached_property
    def _defaults(self) -> list[tuple[Parameter, Stored]]:
        """Every parameter with the stored form of its default; Live where it has none."""
        accepts = self.function.accepts
        found: list[tuple[Parameter, Stored]] = []
        for parameter in self.function.parameters.values():
            default: Stored = None
            if not parameter.required and not parameter.provided:
                try:
                    default = store(parameter.default, accepts(parameter.name), self.label)
                except GraphError:  # `x: int = None`: the function's own business
                    default = Live(parameter.default)
            found.append((parameter, default))
        return found

    def _one_node(self, parameters: list[tuple[Parameter, Stored]]) -> Body:
        function = self.function
        body = Body(self.label, function.location)
        body.result_annotation = function.returns
        arguments: list[Argument] = []
        for parameter, default in parameters:
            annotation = function.accepts(parameter.name)
            text = annotation_text(annotation)
            required = parameter.required or bool(parameter.provided)
            entry = Input(body, parameter.name, annotation, text, required, default)
            arguments.append(Argument(parameter.name, input_ref(body, entry)))
        place = function.location
        where = place.file, place.line
        node = Node(body, 0, self.node_name or self.label, self, arguments, where)
        body.nodes.append(node)
        body.result = Ref(node)
        return body


class SyncTask(Task[P, R]):
    """A task made of a `def`."""

    @property
    def fn(self) -> Callable[P, R]:
        """The plain function, as it was written."""
        return cast("Callable[P, R]", self.function.fn)


class AsyncTask(Task[P, R]):
    """A task made of an `async def`."""

    @property
    def fn(self) -> Callable[P, Coroutine[Any, Any, R]]:
        """The plain coroutine function, as it was written."""
        return cast("Callable[P, Coroutine[Any, Any, R]]", self.function.fn)


class TaskDecorator(Protocol):
    """What `task(...)` with options gives."""

    @overload
    def __call__(  # type: ignore[overload-overlap] # the first that fits is meant
        self,
        fn: Callable[P, Coroutine[Any, Any, R]],  # pyright: ignore[reportOverlappingOverload]
        /,
    ) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> SyncTask[P, R]: ...


@overload
def task(  # type: ignore[overload-overlap] # the first that fits is meant
    fn: Callable[P, Coroutine[Any, Any, R]], /
) -> AsyncTask[P, R]: ...
@overload
def task(fn: Callable[P, R], /) -> SyncTask[P, R]: ...
@overload
def task(
    *,
    name: str = "",
    backend: str = "",
    retry: Retry | int = 0,
    timeout: float | None = None,
    node_timeout: float | None = None,
    pool: str = "",
    resources: Resources | None = None,
    codec: str = "",
    cache: bool | str = False,
    image: str = "",
    options: Mapping[str, OptionValue] | None = None,
) -> TaskDecorator: ...
def task(fn: Callable[..., object] | None = None, /, **given: object) -> object:
    """Make a function a task: `@task`, or `@task(...)` with options.

    `name` names its nodes, by default the function's name. `backend` says where it runs: by
    default an `async def` in the loop (`inline`), a `def` in a thread (`thread`). `retry` is a
    number of retries or a `Retry`. `timeout` bounds one attempt, `node_timeout` all attempts with
    the waits between them, in seconds. `pool` names an engine-wide limit. `resources` are what
    one attempt needs. `codec` opts in to a codec for the result (`"pickle"`). `cache` takes the
    value of an earlier call with equal inputs and the same code instead of running: True, or a
    version text (`"v2"`) to change when something changed that the function's code does not show.
    `image` names the image of its container, on backends that have containers. `options` are the
    backend's own. Raises GraphError for what cannot be a task, and for values
    that cannot be.
    """
    name = given.pop("name", "")
    given = {key: value for key, value in given.items() if value is not None}
    options = read_options(given, _DEFAULTS)

    def decorate(fn: Callable[..., object]) -> Task[..., object]:
        if isinstance(fn, Definition):
            message = f"{fn!r} is decorated twice"
            raise Code.G040.error(
                message, here(), "Use one decorator; .with_options(...) for more."
            )
        if isinstance(fn, type) or not callable(fn):
            message = f"{fn!r:.60} is no function, so it cannot be a task"
            raise Code.G040.error(message, here())
        function = Function(fn, "task")
        kind = AsyncTask if function.is_async else SyncTask
        return kind(function, str(name), options)

    return decorate if fn is None else decorate(fn)
