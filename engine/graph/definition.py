"""What can be called in a graph, bound and mapped: the common part of tasks and graphs.

Rule of this room: calls go to the recorder of the graph that is being traced; nothing runs here.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Final, Generic, ParamSpec, Self, TypeVar, cast

from onready.engine.graph.body import Body, CallKind
from onready.engine.graph.codes import Code
from onready.engine.graph.functions import Function
from onready.engine.graph.locate import here
from onready.engine.graph.recorder import Recorder, recording
from onready.engine.graph.refs import Ref, entries_of
from onready.engine.graph.settings import Unset, limit_of, truth
from onready.engine.names import Location, is_name

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_BIND_CURE: Final = (
    "after=, limit= and always= count for a call inside a graph. For an arm, give after= and "
    "always= to branch(...), switch(...) or rescue(...)."
)


class Bound(Generic[R_co]):
    """A graph with its inputs: what `Engine.run` takes, and what it will give is `R_co`.

    `graph` is what runs, `inputs` are values by parameter name, `name` is the graph's.
    """

    __slots__ = ("_make", "inputs", "location")

    def __init__(self, make: Definition[..., R_co] | Body, inputs: dict[str, object]) -> None:
        self._make = make
        self.inputs = inputs
        self.location: Location | None = None

    @property
    def graph(self) -> Body:
        """The body that runs; a decorated graph is traced when this is first asked for."""
        made = self._make
        return made if isinstance(made, Body) else made.body(self.inputs)

    @property
    def definition(self) -> Definition[..., R_co] | None:
        """The task or the graph that was bound; None for what a GraphBuilder made."""
        made = self._make
        return None if isinstance(made, Body) else made

    @property
    def name(self) -> str:
        """The name of the graph."""
        made = self._make
        return made.name if isinstance(made, Body) else made.label

    def __repr__(self) -> str:
        return f"<bound {self.name}({', '.join(self.inputs)})>"


class Definition(Generic[P, R]):
    """A task or a graph: use the decorators `task` and `graph` to make one.

    Inside a graph, a call adds a node and gives a ref that stands for its value; type checkers
    see the value's type.
    """

    kind: CallKind = "task"

    def __init__(self, function: Function, name: str) -> None:
        self.function = function
        self.label = name or function.label
        if not is_name(self.label):
            place = here() if name else function.location
            message = f"{self.label!r} cannot name a {self._word}"
            raise Code.G021.error(message, place)
        self.node_name = ""
        self.after: tuple[object, ...] = ()
        self.limit = 0
        self.always = False
        self.__name__ = self.label
        self.__doc__ = function.fn.__doc__
        self.__module__ = getattr(function.fn, "__module__", self.__module__)
        self.__wrapped__ = function.fn

    @property
    def _word(self) -> str:
        return "task" if self.kind == "task" else "graph"

    def __repr__(self) -> str:
        return f"<{self._word} {self.label}>"

    @property
    def result_annotation(self) -> object:
        """The annotation of what one call gives, or MISSING."""
        return self.function.returns

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Add a node that calls it; inside a graph only, GraphError elsewhere."""
        recorder = recording(self.label)
        return cast("R", self.record(recorder, args, kwargs, self.kind))

    def map(self, *args: P.args, **kwargs: P.kwargs) -> list[R]:
        """Add a node that calls it once per item of its `each(...)` arguments, in parallel.

        All `each` arguments go together and must be of equal length; the others are the same for
        every item. The value is the list of results, in the order of the items.
        """
        recorder = recording(f"{self.label}.map")
        return cast("list[R]", self.record(recorder, args, kwargs, "map"))

    def bind(self, *args: P.args, **kwargs: P.kwargs) -> Bound[R]:
        """It with its inputs, ready for `Engine.run`; GraphError on unknown or missing inputs."""
        given = self.function.arrange(args, kwargs)
        option = self.call_option
        if option:
            message = f"{self.label}.bind() with {option}, an option of a call"
            raise Code.G041.error(message, here(), _BIND_CURE)
        return self.bound(given)

    @property
    def call_option(self) -> str:
        """The option of a call, among those that need one, that is set: `after=`; "" for none."""
        options = {"after=": self.after, "limit=": self.limit, "always=": self.always}
        return next((name for name, value in options.items() if value), "")

    def bound(self, inputs: dict[str, object]) -> Bound[R]:
        """As `bind`, without looking at the inputs: the engine does when the run starts."""
        made = Bound[R](self, inputs)
        made.location = self.function.location
        return made

    def record(
        self,
        recorder: Recorder,
        args: tuple[object, ...],
        kwargs: dict[str, object],
        kind: CallKind,
        name: str = "",
        after: Sequence[object] = (),
        always: bool = False,
    ) -> Ref:
        """Add a node for one call to `recorder`."""
        self.prepare()
        if self.limit and kind != "map":
            cure = "limit= bounds how many items of a map run at once: write .map(...)."
            message = f"limit={self.limit} on a plain call of {self.label}"
            raise Code.G041.error(message, here(), cure)
        function = self.function
        given = function.arrange(args, kwargs)
        if function.secrets:
            # The default of the function itself is a mere reference: it must come as an input.
            given = given | {k: v for k, v in function.secrets.items() if k not in given}
        return recorder.add(
            self,
            given,
            function.accepts,
            kind,
            name=name or self.node_name,
            after=(*self.after, *after) if after else self.after,
            limit=self.limit,
            always=always or self.always,
        )

    def prepare(self) -> None:
        """Whatever must be known of it before it becomes a part of a graph."""

    def body(self, inputs: dict[str, object]) -> Body:
        """The body that a run of it executes, given these inputs."""
        raise NotImplementedError  # pragma: no cover - tasks and graphs each have theirs

    def changed(self, name: str, after: Sequence[object], limit: int, always: bool | Unset) -> Self:
        """A copy with the options of a call; empty ones stay as they are."""
        other = copy.copy(self)
        if name:
            other.node_name = name
        if after != ():
            other.after = entries_of(after)
        if limit:
            other.limit = limit_of(limit)
        if always is not ...:
            other.always = truth("always", always)
        return other
