"""From a graph to its plan: fragments, edges, tasks, checks, fingerprint.

A body that is used many times is compiled once and shared: fragments are closed and never
change. A plan is kept with its body, so that starting the same graph again costs a look-up.

Rule of this room: the only place where graphs and plans meet. It runs nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Final, cast

import msgspec

from onready.engine.graph.body import Body, Node
from onready.engine.graph.codes import Code
from onready.engine.graph.composites import ArmCall, Choice, Loop, bodies_of, inputs_of
from onready.engine.graph.definition import Bound
from onready.engine.graph.functions import MISSING
from onready.engine.graph.refs import Ref, describe
from onready.engine.graph.settings import thaw
from onready.engine.graph.shell import ShellCommand
from onready.engine.graph.task import Task
from onready.engine.names import Location
from onready.engine.options import OnError
from onready.engine.plan.bindings import bind, bind_all
from onready.engine.plan.checks import (
    check_cached,
    check_nothing_live,
    check_provided,
    check_task,
    default_backend,
)
from onready.engine.plan.edges import feeds_of, sources_of, waits_of
from onready.engine.plan.failures import Wanted, tolerant_maps
from onready.engine.plan.fingerprint import fingerprint
from onready.engine.plan.model import (
    Arg,
    Arm,
    Fragment,
    FromProvided,
    OnLimit,
    ParamSpec,
    Plan,
    PlanNode,
    TaskRuntime,
    TaskSpec,
)
from onready.engine.plan.sources import reference_of, source_hash
from onready.engine.plan.typecheck import TypeCheck
from onready.engine.spi import Call, Capabilities, Work

_KEPT: Final = 8
"""How many plans a body remembers: one per set of backends and options it is run with."""
_NONE: Final[list[Body]] = []


def compile_plan(
    bound: Bound[object],
    *,
    backends: Mapping[str, Capabilities],
    backend: str | None = None,
    on_error: OnError | None = None,
    provided: Collection[str] | None = None,
) -> Plan:
    """The plan of a bound graph.

    `backends` are those of the engine, with what they can do. `backend` runs all Python tasks
    there, whatever they say. `on_error` overrides the graph's own. `provided` are the names of
    the live objects at hand; None leaves that unchecked (to look at a plan nothing need be at
    hand). Raises GraphError. The same plan object may be given twice.
    """
    for name, value in bound.inputs.items():
        if type(value) is Ref:
            message = f"{bound.name} is run with {describe(value)} as its input {name!r}"
            raise Code.G014.error(message, bound.location, "Run it with a value.")
    body = bound.graph
    names = None if provided is None else frozenset(provided)
    key = (frozenset(backends.items()), backend, on_error, names)
    known = body.plans.get(key)
    if known is None:
        compiler = _Compiler(backends, backend, names)
        if len(body.plans) >= _KEPT:
            body.plans.clear()
        known = body.plans[key] = compiler.plan(body, on_error)
    return cast("Plan", known)


class _Compiler:
    """One compilation: the tasks and fragments found so far."""

    def __init__(
        self,
        backends: Mapping[str, Capabilities],
        backend: str | None,
        provided: frozenset[str] | None,
    ) -> None:
        self.backends = backends
        self.backend = backend
        self.provided = provided
        self.tasks: list[TaskSpec] = []
        self.runtimes: list[TaskRuntime] = []
        self.types = TypeCheck()
        self._fragments: dict[int, Fragment] = {}
        self._wanted: dict[int, Wanted] = {}
        self._positions: dict[tuple[object, ...], int] = {}
        self._places: dict[tuple[str, int], str] = {}

    def plan(self, body: Body, on_error: OnError | None) -> Plan:
        root = self.fragment(body)
        if id(body) in self._wanted:
            raise self._wanted[id(body)].refuse()
        tasks = tuple(self.tasks)
        returned = body.result_annotation
        return Plan(
            name=body.name,
            root=root,
            tasks=tasks,
            fingerprint=fingerprint(root, tasks),
            runtimes=tuple(self.runtimes),
            on_error=on_error or body.on_error or "stop",
            timeout=body.timeout,
            param_types={
                name: entry.annotation
                for name, entry in body.inputs.items()
                if entry.annotation is not MISSING
            },
            result_type=None if returned is MISSING else returned,
            location=body.location,
        )

    # --- fragments ----------------------------------------------------------------------------

    def fragment(self, body: Body) -> Fragment:
        """The fragment of a body. No recursion: built graphs nest to any depth."""
        stack = [self._made(body)]
        while stack:
            inner = next(stack[-1], None)
            if inner is None:
                stack.pop()
            elif id(inner) not in self._fragments:
                stack.append(self._made(inner))
        return self._fragments[id(body)]

    def _made(self, body: Body) -> Iterator[Body]:
        """Make the fragment of a body; yields each body that must be a fragment before it."""
        waits = waits_of(body)
        feeds = feeds_of(waits)
        tolerant = tolerant_maps(body)
        always = {node.index for node in body.nodes if node.always}
        nodes: list[PlanNode] = []
        for node in body.nodes:
            inside = _NONE if node.kind == "task" else bodies_of(node)
            if inside:
                yield from inside
                self._inherit_wanted(body, node, inside)
            made = self._node(node, waits[node.index], tuple(feeds[node.index]), inside)
            if always or node.index in tolerant:
                made = _marked(made, node, always, node.index in tolerant)
            nodes.append(made)
        self.types.result(body)
        self._fragments[id(body)] = Fragment(
            name=body.name,
            params=tuple(
                ParamSpec(entry.name, entry.required, entry.default, entry.text)
                for entry in body.inputs.values()
            ),
            nodes=tuple(nodes),
            result=bind(body.result),
        )

    def _node(
        self, node: Node, waits: tuple[int, ...], feeds: tuple[int, ...], inside: list[Body]
    ) -> PlanNode:
        self.types.node(node)
        args = bind_all(node.arguments)
        callee = node.callee
        task: int | None = None
        body: Fragment | None = None
        arms: tuple[Arm, ...] = ()
        most = 0
        on_limit: OnLimit = "fail"
        if not inside:
            task = self._task(cast("Task[..., object] | ShellCommand", callee), node)
            if isinstance(callee, Task) and callee.function.provided:
                self._provide(node, cast("Task[..., object]", callee), task, args)
        elif isinstance(callee, Choice):
            arms = tuple([self._arm(arm) for arm in callee.arms])
        else:
            body = self._fragments[id(inside[0])]
            if isinstance(callee, Loop):
                most, on_limit = callee.most, callee.on_limit
        return PlanNode(
            position=node.index,
            name=node.name,
            kind=node.kind,
            args=tuple(args),
            waits=waits,
            feeds=feeds,
            task=task,
            body=body,
            limit=node.limit,
            always=node.always,
            where=self._place(node.where),
            arms=arms,
            most=most,
            on_limit=on_limit,
        )

    def _arm(self, arm: ArmCall) -> Arm:
        return Arm(
            name=arm.name,
            body=self._fragments[id(arm.body)],
            args=tuple(bind_all(arm.arguments)),
            key=arm.key,
        )

    def _inherit_wanted(self, body: Body, node: Node, inside: list[Body]) -> None:
        """What bodies inside want of the rescue around, this body wants; a handler gets it."""
        for inner in inside[:1] if node.kind == "rescue" else inside:
            if id(inner) in self._wanted:
                self._wanted.setdefault(id(body), self._wanted[id(inner)])

    def _place(self, where: tuple[str, int]) -> str:
        text = self._places.get(where)
        if text is None:
            text = self._places[where] = f"{where[0]}:{where[1]}"
        return text

    def _provide(
        self, node: Node, callee: Task[..., object], position: int, args: list[Arg]
    ) -> None:
        """Add what the engine provides to the arguments that the call gives."""
        given = {argument.name for argument in node.arguments}
        if callee.wants_failure(given):
            self._wanted.setdefault(id(node.body), Wanted(node.name, node.location))
        spec = self.tasks[position]
        check_provided(node, given, callee, spec, self.backends[spec.backend], self.provided)
        if spec.cache:
            check_nothing_live(node, given, callee)
        args.extend(
            Arg(parameter.name, FromProvided(parameter.provided))
            for parameter in callee.function.provided
            if parameter.name not in given
        )

    # --- tasks --------------------------------------------------------------------------------

    def _task(self, callee: Task[..., object] | ShellCommand, node: Node) -> int:
        """The position of the task with these options; made and checked when first met."""
        what = callee if isinstance(callee, ShellCommand) else callee.function
        # Options by identity first: hashing them for each of 100,000 calls would show.
        quick = (id(what), callee.label, id(callee.options))
        position = self._positions.get(quick)
        if position is None:
            work = callee.work if isinstance(callee, ShellCommand) else callee.function
            slow = (work, callee.label, callee.options)
            position = self._positions.get(slow)
            if position is None:
                position = self._add_task(callee, node.location)
                self._positions[slow] = position
            self._positions[quick] = position
        return position

    def _add_task(self, callee: Task[..., object] | ShellCommand, where: Location) -> int:
        if isinstance(callee, ShellCommand):
            spec = _spec(callee, callee.work, None, params=callee.work.inputs)
            runtime = TaskRuntime(None, {}, callee.result_annotation, typed_return=True)
        else:
            spec, runtime = _python_task(callee, self.backend)
        check_task(spec, callee, self.backends, where)
        if spec.cache and isinstance(callee, Task):
            check_cached(callee, where)
        self.tasks.append(spec)
        self.runtimes.append(runtime)
        return len(self.tasks) - 1


def _marked(made: PlanNode, node: Node, always: set[int], tolerant: bool) -> PlanNode:
    """The node with what only a few have: who cleans up after it, and what it cannot do without."""
    return msgspec.structs.replace(
        made,
        needs=tuple(sorted(sources_of(inputs_of(node)))) if node.always else (),
        cleans=tuple([position for position in made.feeds if position in always]),
        tolerant=tolerant,
    )


def _python_task(callee: Task[..., object], backend: str | None) -> tuple[TaskSpec, TaskRuntime]:
    function = callee.function
    fn = function.fn
    module = getattr(fn, "__module__", "") or ""
    reference = reference_of(fn) or f"{module}:{getattr(fn, '__qualname__', callee.label)}"
    spec = _spec(
        callee,
        Call(reference, callee.options.codec),
        backend,
        is_async=function.is_async,
        source=source_hash(fn),
        params=tuple(function.parameters),
    )
    returned = function.returns
    accepts = {name: hint for name, hint in function.hints.items() if name != "return"}
    typed = returned is not MISSING
    return spec, TaskRuntime(fn, accepts, returned if typed else None, typed)


def _spec(
    callee: Task[..., object] | ShellCommand,
    work: Work,
    backend: str | None,
    *,
    is_async: bool = False,
    source: str = "",
    params: tuple[str, ...] = (),
) -> TaskSpec:
    options = callee.options
    return TaskSpec(
        name=callee.label,
        work=work,
        backend=backend or options.backend or default_backend(callee),
        is_async=is_async,
        retry=options.retry,
        timeout=options.timeout,
        node_timeout=options.node_timeout,
        pool=options.pool,
        resources=options.resources,
        options=thaw(options),
        codec=options.codec,
        source=source,
        params=params,
        cache=options.cache,
    )
