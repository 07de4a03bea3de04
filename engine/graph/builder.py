"""The builder: graphs made by code, one `add` at a time.

Rule of this room: the same recorder as traced graphs, so that nothing can be built that cannot
be traced, but for edges to nodes that come later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar, cast, overload

from onready.engine.graph.body import Body, Input
from onready.engine.graph.choosing import record_branch, record_rescue, record_switch
from onready.engine.graph.codes import Code, did_you_mean
from onready.engine.graph.composites import OnLimit
from onready.engine.graph.constants import store
from onready.engine.graph.definition import Bound, Definition
from onready.engine.graph.function import ON_ERROR
from onready.engine.graph.functions import MISSING, annotation_text
from onready.engine.graph.locate import here
from onready.engine.graph.recorder import Recorder, input_ref
from onready.engine.graph.refs import Ref, entries_of
from onready.engine.graph.repeating import record_repeat
from onready.engine.graph.secrets import refuse_secret_result
from onready.engine.graph.settings import seconds, truth
from onready.engine.graph.shell import record_shell
from onready.engine.names import is_name
from onready.engine.options import OnError

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
S = TypeVar("S")
K = TypeVar("K", str, int, bool)


class GraphBuilder:
    """Builds a graph by code: `add`, `map`, `shell`, `branch`..., `param`, at last `build`.

    `name` names the graph; `on_error` and `timeout` are those of `graph`. GraphError on values
    that cannot be.
    """

    def __init__(
        self, name: str = "graph", *, on_error: OnError | None = None, timeout: float | None = None
    ) -> None:
        if not is_name(name):
            message = f"{name!r} cannot name a graph"
            raise Code.G021.error(message, here())
        if on_error is not None and on_error not in ON_ERROR:
            cure = f"Give one of {', '.join(ON_ERROR)}."
            message = f"on_error={on_error!r} cannot be"
            raise Code.G041.error(message, here(), cure)
        self._body = Body(name, here(), on_error, seconds("timeout", timeout))
        self._recorder = Recorder(self._body)
        self._built = False

    def _open(self) -> Recorder:
        if self._built:
            message = f"the graph {self._body.name} is built already"
            raise Code.G045.error(message, here())
        return self._recorder

    @overload
    def add(self, what: Definition[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def add(
        self,
        what: Definition[..., R],
        /,
        *args: object,
        name: str,
        after: Sequence[object] = (),
        always: bool = False,
        **kwargs: object,
    ) -> R: ...
    @overload
    def add(
        self,
        what: Definition[..., R],
        /,
        *args: object,
        after: Sequence[object],
        always: bool = False,
        **kwargs: object,
    ) -> R: ...
    @overload
    def add(
        self, what: Definition[..., R], /, *args: object, always: bool, **kwargs: object
    ) -> R: ...
    def add(
        self,
        what: Any,
        /,
        *args: Any,
        **kwargs: Any,
    ) -> object:
        """Add a call of a task or a graph; what it gives stands for its value.

        `name` names the node; `after` are results of other calls, or names of nodes (also of
        later ones), that must end well first; `always` makes it run whatever became of them. A
        task whose own parameter has one of these names takes it by position. GraphError.
        """
        return self._call(what, args, kwargs, mapped=False)

    @overload
    def map(self, what: Definition[P, R], /, *args: P.args, **kwargs: P.kwargs) -> list[R]: ...
    @overload
    def map(
        self,
        what: Definition[..., R],
        /,
        *args: object,
        name: str,
        after: Sequence[object] = (),
        always: bool = False,
        **kwargs: object,
    ) -> list[R]: ...
    @overload
    def map(
        self,
        what: Definition[..., R],
        /,
        *args: object,
        after: Sequence[object],
        always: bool = False,
        **kwargs: object,
    ) -> list[R]: ...
    @overload
    def map(
        self, what: Definition[..., R], /, *args: object, always: bool, **kwargs: object
    ) -> list[R]: ...
    def map(
        self,
        what: Any,
        /,
        *args: Any,
        **kwargs: Any,
    ) -> object:
        """Add a map: one call per item of its `each(...)` arguments; else as `add`."""
        return self._call(what, args, kwargs, mapped=True)

    def _call(
        self,
        what: object,
        args: tuple[object, ...],
        kwargs: dict[str, object],
        *,
        mapped: bool,
    ) -> Ref:
        recorder = self._open()
        name = str(kwargs.pop("name", ""))
        after = entries_of(kwargs.pop("after", ()))
        always = truth("always", kwargs.pop("always", False))
        if not isinstance(what, Definition):
            message = f"{what!r:.60} is neither a task nor a graph"
            raise Code.G040.error(message, here(), "Decorate the function with @task or @graph.")
        called = cast("Definition[..., object]", what)
        kind = "map" if mapped else called.kind
        return called.record(recorder, args, kwargs, kind, name, after, always)

    def shell(
        self,
        command: str | Sequence[object],
        *,
        inputs: Mapping[str, object] | None = None,
        outputs: str | Sequence[str] | None = None,
        environment: Mapping[str, str] | None = None,
        name: str = "",
        after: Sequence[object] = (),
        always: bool = False,
        **options: object,
    ) -> Any:
        """Add a program: see `shell`. `after` takes names of nodes too."""
        recorder = self._open()
        given = {key: value for key, value in options.items() if value is not None}
        return record_shell(
            recorder, command, inputs, outputs, environment, name, after, always, given
        )

    def container(
        self,
        image: str,
        command: Sequence[object],
        *,
        inputs: Mapping[str, object] | None = None,
        outputs: str | Sequence[str] | None = None,
        environment: Mapping[str, str] | None = None,
        name: str = "",
        after: Sequence[object] = (),
        always: bool = False,
        **options: object,
    ) -> Any:
        """Add a program that runs in a container of `image`: as `shell` in all else.

        `command` is the whole of it: the image's own entry point is not put before it. Nothing of
        onready is needed in the image. The default backend is `docker`.
        """
        if not image:
            message = f"{image!r:.80} cannot name an image"
            raise Code.G043.error(message, here(), 'Give a text: "busybox:1.36".')
        recorder = self._open()
        given = {key: value for key, value in options.items() if value is not None}
        return record_shell(
            recorder, command, inputs, outputs, environment, name, after, always, given, image
        )

    # --- composites ---------------------------------------------------------------------------

    def branch(
        self,
        test: bool,
        then: Bound[A],
        otherwise: Bound[B],
        *,
        name: str = "",
        after: Sequence[object] = (),
        always: bool = False,
    ) -> A | B:
        """Add a branch: see `branch`. `after` takes names of nodes too."""
        recorder = self._open()
        return cast("A | B", record_branch(recorder, test, then, otherwise, name, after, always))

    @overload
    def switch(
        self,
        value: K,
        arms: Mapping[K, Bound[A]],
        default: None = None,
        *,
        name: str = "",
        after: Sequence[object] = (),
        always: bool = False,
    ) -> A: ...
    @overload
    def switch(
        self,
        value: K,
        arms: Mapping[K, Bound[A]],
        default: Bound[B],
        *,
        name: str = "",
        after: Sequence[object] = (),
        always: bool = False,
    ) -> A | B: ...
    def switch(
        self,
        value: object,
        arms: Mapping[K, Bound[A]],
        default: Bound[B] | None = None,
        *,
        name: str = "",
        after: Sequence[object] = (),
        always: bool = False,
    ) -> object:
        """Add a switch: see `switch`. `after` takes names of nodes too."""
        return record_switch(self._open(), value, arms, default, name, after, always)

    def repeat(
        self,
        body: Callable[[S], S],
        state: S,
        *,
        until: Callable[[S], bool],
        limit: int,
        on_limit: OnLimit = "fail",
        name: str = "",
        after: Sequence[object] = (),
        always: bool = False,
    ) -> S:
        """Add a repeat: see `repeat`. `after` takes names of nodes too."""
        recorder = self._open()
        made = record_repeat(recorder, body, state, until, limit, on_limit, name, after, always)
        return cast("S", made)

    def rescue(
        self,
        body: Bound[A],
        handler: Bound[B],
        *,
        name: str = "",
        after: Sequence[object] = (),
        always: bool = False,
    ) -> A | B:
        """Add a rescue: see `rescue`. `after` takes names of nodes too."""
        return cast("A | B", record_rescue(self._open(), body, handler, name, after, always))

    # --- inputs and the end -------------------------------------------------------------------

    @overload
    def param(self, name: str, kind: type[T], *, default: T = ...) -> T: ...
    @overload
    def param(self, name: str, kind: object = ..., *, default: object = ...) -> Any: ...
    def param(self, name: str, kind: object = MISSING, *, default: object = MISSING) -> object:
        """Add an input of the graph, of the type `kind`; what it gives stands for its value.

        Without a default a run must give it. GraphError on a name that is taken or cannot be.
        """
        body = self._open().body
        if not name.isidentifier():
            message = f"{name!r} cannot name an input"
            raise Code.G021.error(message, here(), "Use a name that a Python parameter can have.")
        if name in body.inputs:
            message = f"the graph {body.name} has an input {name!r} already"
            raise Code.G020.error(message, here())
        entry = Input(body, name, kind, annotation_text(kind))
        if default is not MISSING:
            entry.required = False
            entry.default = store(default, kind, f"{body.name}({name})")
        return input_ref(body, entry)

    @overload
    def build(self, *, inputs: Mapping[str, object] | None = None) -> Bound[None]: ...
    @overload
    def build(self, result: R, *, inputs: Mapping[str, object] | None = None) -> Bound[R]: ...
    def build(
        self, result: object = None, *, inputs: Mapping[str, object] | None = None
    ) -> Bound[object]:
        """The graph, ready for `Engine.run`; its value is `result`, with the refs in it filled in.

        `inputs` are the values of its `param`s; where it becomes an arm of another graph, refs of
        that graph may be among them. After this the builder takes nothing more.
        """
        recorder = self._open()
        body = recorder.body
        body.result = recorder.value(result, MISSING, f"the result of {body.name}", "")
        refuse_secret_result(body)
        given = dict(inputs or {})
        for name in given:
            if name not in body.inputs:
                message = f"the graph {body.name} has no input {name!r}"
                raise Code.G003.error(message, here(), did_you_mean(name, body.inputs))
        self._built = True
        made: Bound[object] = Bound(body, given)
        made.location = here()
        return made
