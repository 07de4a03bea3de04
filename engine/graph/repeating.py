"""Repeats: `repeat`, traced or built. One iteration is a body of two nodes: a step and a test.

Rule of this room: makes that body and one node; how often it runs is the scheduler's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple, TypeVar, cast

from onready.engine.graph.body import Body, Input
from onready.engine.graph.codes import Code
from onready.engine.graph.composites import Loop, OnLimit
from onready.engine.graph.definition import Definition
from onready.engine.graph.functions import annotation_text
from onready.engine.graph.locate import here
from onready.engine.graph.recorder import Recorder, input_ref, recording
from onready.engine.graph.refs import Ref, entries_of
from onready.engine.graph.settings import truth

S = TypeVar("S")

STATE: Final = "state"
"""The parameter of an iteration that holds the state; the others are `body.x` and `until.x`."""
_ON_LIMIT: Final = ("fail", "return")


def repeat(
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
    """Do `state = body(state)` until `until(state)` is true; the value is the last state.

    `body` is a task or a graph, `until` a task; `functools.partial(body, data)` fixes their other
    arguments, refs among them, and the state goes to the first parameter that is not fixed. The
    body runs at least once and at most `limit` times: then the node fails, or with
    `on_limit="return"` gives the state that it has. The other arguments are those of `branch`.
    GraphError.
    """
    recorder = recording("repeat")
    made = record_repeat(recorder, body, state, until, limit, on_limit, name, after, always)
    return cast("S", made)


def record_repeat(
    recorder: Recorder,
    body: object,
    state: object,
    until: object,
    limit: object,
    on_limit: object,
    name: str,
    after: Sequence[object],
    always: object,
) -> Ref:
    """Add a repeat to `recorder`; the ref of its value."""
    most = _most(limit)
    if on_limit not in _ON_LIMIT:
        message = f"on_limit={on_limit!r} cannot be"
        raise Code.G041.error(message, here(), 'Give "fail" or "return".')
    step = _part("body", body)
    test = _part("until", until)
    if test.definition.kind != "task":
        message = f"the test of repeat is {test.definition!r}"
        raise Code.G035.error(message, here(), "Make it a task that returns a bool.")
    iteration = Body(step.definition.label, here())
    inside = Recorder(iteration, recorder.owner, recorder.outer)
    annotation = step.definition.function.accepts(step.state)
    entry = Input(iteration, STATE, annotation, annotation_text(annotation))
    made = _call(inside, "body", step, input_ref(iteration, entry))
    _call(inside, "until", test, made)
    iteration.result = made
    iteration.result_annotation = step.definition.result_annotation
    loop = Loop("repeat", iteration, most, on_limit, step.definition, step.state)
    given = {STATE: state}
    for part in (step, test):
        given.update({f"{part.role}.{key}": value for key, value in part.fixed.items()})
    return recorder.add(
        loop,
        given,
        lambda key: iteration.inputs[key].annotation,
        "repeat",
        name=name,
        after=entries_of(after),
        always=truth("always", always),
    )


def _most(limit: object) -> int:
    if isinstance(limit, int) and not isinstance(limit, bool) and limit >= 1:
        return limit
    cure = "Give the most times that the body may run: a whole number from 1."
    message = f"limit={limit!r:.60} cannot be"
    raise Code.G041.error(message, here(), cure)


class _Part(NamedTuple):
    """The body or the test: what is called, the arguments that are fixed, where the state goes."""

    role: str
    definition: Definition[..., object]
    fixed: dict[str, object]
    state: str


def _part(role: str, given: object) -> _Part:
    args: tuple[object, ...] = ()
    kwargs: dict[str, object] = {}
    what = given
    if isinstance(what, partial):
        fixed = cast("partial[object]", what)
        what, args, kwargs = fixed.func, fixed.args, fixed.keywords
    if not isinstance(what, Definition):
        message = f"the {role} of repeat is {given!r:.60}"
        raise Code.G035.error(message, here())
    definition = cast("Definition[..., object]", what)
    option = definition.call_option
    if option:
        message = f"the {role} of repeat, {definition.label}, has {option}, an option of a call"
        raise Code.G041.error(message, here(), "Give after= and always= to repeat(...) itself.")
    function = definition.function
    known = function.arrange(args, kwargs, partly=True)
    free = [
        parameter.name
        for parameter in function.parameters.values()
        if parameter.name not in known and not parameter.provided
    ]
    if not free:
        message = f"the {role} of repeat, {definition.label}, has no parameter for the state"
        raise Code.G035.error(message, here(), "Leave one parameter that is not fixed.")
    missing = [other for other in free[1:] if function.parameters[other].required]
    if missing:
        message = f"the {role} of repeat, {definition.label}, is not given {', '.join(missing)}"
        cure = f"Fix what is no state: functools.partial({definition.label}, {missing[0]}=...)."
        raise Code.G002.error(message, here(), cure)
    return _Part(role, definition, known, free[0])


def _call(inside: Recorder, role: str, part: _Part, state: Ref) -> Ref:
    """Add the call of a part to the iteration: fixed arguments come in as its parameters."""
    function = part.definition.function
    given: dict[str, object] = {part.state: state}
    for key in part.fixed:
        annotation = function.accepts(key)
        entry = Input(inside.body, f"{role}.{key}", annotation, annotation_text(annotation))
        given[key] = input_ref(inside.body, entry)
    ordered = {key: given[key] for key in function.parameters if key in given}
    return part.definition.record(inside, (), ordered | given, part.definition.kind)
