"""Graphs: functions of the user that are traced once to see what they call.

Rule of this room: a graph function is called here and nowhere else, and with refs alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final, ParamSpec, Protocol, Self, TypeVar, cast, overload

from onready.engine.graph.body import Body, CallKind, Input
from onready.engine.graph.codes import Code
from onready.engine.graph.constants import store
from onready.engine.graph.definition import Definition
from onready.engine.graph.functions import Function, annotation_text
from onready.engine.graph.locate import here
from onready.engine.graph.recorder import Recorder, current_recorder, input_ref
from onready.engine.graph.refs import Ref
from onready.engine.graph.secrets import refuse_secret_result
from onready.engine.graph.settings import Unset, seconds
from onready.engine.options import OnError

P = ParamSpec("P")
R = TypeVar("R")

# One lock for all graphs: with one each, two threads that trace graphs which call each other
# would wait for each other. Tracing is brief, and each graph is traced once.
_tracing: Final = threading.RLock()

ON_ERROR: Final = ("stop", "continue", "cancel")


class Graph(Definition[P, R]):
    """A function that says which tasks run on what. It is called once, with refs."""

    kind: CallKind = "subgraph"

    def __init__(
        self, function: Function, name: str, on_error: OnError | None, timeout: float | None
    ) -> None:
        super().__init__(function, name)
        self.on_error: OnError | None = on_error
        self.timeout = timeout
        # Shared with all copies that with_options makes: one graph is traced once.
        self._traced: list[Body] = []

    @property
    def fn(self) -> Callable[P, R]:
        """The plain function, as it was written."""
        return cast("Callable[P, R]", self.function.fn)

    def with_options(
        self,
        *,
        name: str = "",
        after: Sequence[object] = (),
        limit: int = 0,
        always: bool | Unset = ...,
    ) -> Self:
        """A copy with other options of a call.

        `name` names the node, once per graph. `after` are results of calls that must end well
        first. `limit` bounds how many items of a map run at once. `always`: it runs whatever
        became of what it waits for, to clean up.
        """
        return self.changed(name, after, limit, always)

    def prepare(self) -> None:
        """Trace the graph now, so that its faults show where it is called."""
        self._refuse_recursion()
        self.body({})

    def _refuse_recursion(self) -> None:
        names = [self.label]
        recorder = current_recorder.get()
        while recorder is not None:
            # What is traced has a graph for its owner; builders are never current.
            owner = cast("Graph[..., object]", recorder.owner)
            names.append(owner.label)
            if owner.function is self.function:
                way = " -> ".join(reversed(names))
                message = f"the graph {self.label} calls itself: {way}"
                raise Code.G006.error(message, here())
            recorder = recorder.outer

    def body(self, inputs: dict[str, object]) -> Body:
        """What the function calls; traced when first asked for, the same for all inputs."""
        del inputs
        if not self._traced:
            with _tracing:
                if not self._traced:
                    self._traced.append(self._trace())
        return self._traced[0]

    def _trace(self) -> Body:
        function = self.function
        body = Body(self.label, function.location, self.on_error, self.timeout)
        body.result_annotation = function.returns
        refs: dict[str, Ref] = {}
        for parameter in function.parameters.values():
            annotation = function.accepts(parameter.name)
            entry = Input(body, parameter.name, annotation, annotation_text(annotation))
            if not parameter.required:
                entry.required = False
                entry.default = store(
                    parameter.default, annotation, f"{self.label}({parameter.name})"
                )
            refs[parameter.name] = input_ref(body, entry)
        recorder = Recorder(body, self, current_recorder.get())
        token = current_recorder.set(recorder)
        try:
            result = function.fn(**refs)
            body.result = recorder.value(
                result, function.returns, f"the result of {self.label}", ""
            )
            refuse_secret_result(body)
        finally:
            current_recorder.reset(token)
        return body


class GraphDecorator(Protocol):
    """What `graph(...)` with options gives."""

    def __call__(self, fn: Callable[P, R], /) -> Graph[P, R]: ...


@overload
def graph(fn: Callable[P, R], /) -> Graph[P, R]: ...
@overload
def graph(
    *, name: str = "", on_error: OnError | None = None, timeout: float | None = None
) -> GraphDecorator: ...
def graph(
    fn: Callable[..., object] | None = None,
    /,
    *,
    name: str = "",
    on_error: OnError | None = None,
    timeout: float | None = None,
) -> object:
    """Make a function a graph: `@graph`, or `@graph(...)` with options.

    The function is called once, when the graph is first bound or called, with refs in place of
    values. `on_error` says what a run of this graph does when a node failed for good: "stop"
    starts nothing new (the default), "continue" runs all that does not depend on it, "cancel"
    also cancels what runs. `timeout` bounds a run of it, in seconds. Both count for the graph
    that a run starts with, not where it is a part of another. Raises GraphError.
    """
    if on_error is not None and on_error not in ON_ERROR:
        cure = f"Give one of {', '.join(ON_ERROR)}."
        message = f"on_error={on_error!r} cannot be"
        raise Code.G041.error(message, here(), cure)
    bound = seconds("timeout", timeout)

    def decorate(fn: Callable[..., object]) -> Graph[..., object]:
        if isinstance(fn, Definition):
            message = f"{fn!r} is decorated twice"
            raise Code.G040.error(message, here(), "Use one decorator.")
        if isinstance(fn, type) or not callable(fn):
            message = f"{fn!r:.60} is no function, so it cannot be a graph"
            raise Code.G040.error(message, here())
        return Graph(Function(fn, "graph"), name, on_error, bound)

    return decorate if fn is None else decorate(fn)
