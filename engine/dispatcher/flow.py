"""Values between nodes: from bindings to arguments, from results to what is recorded.

A row's `value` is a stored value, or a `Part` of one: a projection that is only worked out by
whoever needs it, since it may have to fetch a blob first.

What may not live here: when a node runs, and where.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

import anyio
import anyio.lowlevel
import anyio.to_thread

from onready.engine.context import NodeContext
from onready.engine.dispatcher.tasks import SCALARS, LiveTask
from onready.engine.errors import Failure, InternalError, NoCodec, SecretError
from onready.engine.plan.model import (
    Arg,
    Binding,
    Const,
    Fragment,
    FromNode,
    FromParam,
    FromProvided,
    Gather,
    Plan,
    Step,
)
from onready.engine.scheduler.state import SUCCEEDED, Row, Scope
from onready.engine.spi import Catalog, Secrets, Shell, Work
from onready.engine.values import (
    ValueType,
    apply_step,
    bring,
    needs_bringing,
    needs_settling,
    settle,
)
from onready.engine.values.secret import CODEC, decode_secret, holds_secret, secret_names
from onready.engine.values.secret import reveal as reveal_all
from onready.engine.values.stored import Compound, Durable, Encoded, Live, Stored

ANY: Final = ValueType.any()
FAILURES: Final = ValueType.of(Failure)
SEQUENCES: Final = frozenset({"list", "tuple"})
PIECE: Final = 500
"""Values encoded before others have the loop."""

CONTEXT: Final = "NodeContext"
"""The name under which a node's own context is provided."""

FAILURE: Final = "Failure"
"""The name under which the handler of a rescue is given what failed."""

STATE: Final = "state"
"""The parameter of a repeat's body that goes from iteration to iteration."""


class Place(Protocol):
    """Where files among values are put: asked for only when there is one."""

    @property
    def incoming(self) -> Path: ...


class Folder:
    """A place that is known beforehand."""

    __slots__ = ("incoming",)

    def __init__(self, incoming: Path) -> None:
        self.incoming = incoming


class Part:
    """A projection of a stored value that is not worked out yet."""

    __slots__ = ("path", "stored", "type")

    def __init__(self, stored: Value, path: Sequence[Step], kind: ValueType) -> None:
        self.stored = stored
        self.path = path
        self.type = kind


Value = None | bool | int | float | str | Encoded | Compound | Live | Part


class Items:
    """What a map's items share, and what each has of its own."""

    __slots__ = ("each", "shared")

    def __init__(self, shared: dict[str, Value], each: dict[str, Sequence[Value]]) -> None:
        self.shared = shared
        self.each = each


class Rounds:
    """What the iterations of a repeat share, and what the last one came to."""

    __slots__ = ("shared", "state", "test")

    def __init__(self, given: dict[str, Value]) -> None:
        self.state: Value = given.pop(STATE)
        self.shared = given
        self.test: Value = None


class Flow:
    """Bindings of one run, worked out. `provided` are its live objects by name."""

    def __init__(
        self,
        plan: Plan,
        tasks: Sequence[LiveTask],
        provided: Mapping[str, object],
        catalog: Catalog,
        *,
        durable: bool,
        secrets: Secrets | None = None,
    ) -> None:
        self._plan = plan
        self._tasks = tasks
        self._catalog = catalog
        self._provided = provided
        self._durable = durable
        self._secrets = secrets
        self._constants: dict[int, Durable] = {}
        self.brought = False
        """Whether files may be in scratch folders because of values."""

    # --- bindings -----------------------------------------------------------------------------

    def resolve(self, binding: Binding, scope: Scope) -> Value:
        """The value of a binding in `scope`, without waiting for anything."""
        kind = type(binding)
        if kind is FromNode:
            assert type(binding) is FromNode
            value: Value = scope.rows[binding.node].value  # type: ignore[assignment] # opaque there
            return self._part(value, binding, scope) if binding.path else value
        if kind is FromParam:
            assert type(binding) is FromParam
            values: dict[str, Value] = scope.values  # type: ignore[assignment] # opaque there
            value = values[binding.name]
            return self._part(value, binding, scope) if binding.path else value
        if kind is Const:
            assert type(binding) is Const
            return binding.value
        if kind is FromProvided:
            assert type(binding) is FromProvided
            if binding.name == FAILURE:
                return FAILURES.encode(failure_in(scope))
            return Live(self._provided.get(binding.name))
        assert type(binding) is Gather
        return self._gather(binding, scope)

    def _gather(self, binding: Gather, scope: Scope) -> Value:
        items = tuple(self.resolve(item, scope) for item in binding.items)
        # Parts inside are worked out with the whole, by `load` and `durable`.
        return Compound(binding.kind, items, binding.keys)  # type: ignore[arg-type]

    def _part(self, value: Value, binding: FromNode | FromParam, scope: Scope) -> Value:
        path = binding.path
        while path and type(value) is Compound:
            value = _member(value, path[0])
            path = path[1:]
        return Part(value, path, self._type_of(binding, scope)) if path else value

    def _type_of(self, binding: Binding, scope: Scope) -> ValueType:
        """How the value behind `binding` is read, where its consumer does not say."""
        if type(binding) is FromNode and scope.fragment is not None:
            node = scope.fragment.nodes[binding.node]
            if node.kind == "task" and node.task is not None:
                return self._tasks[node.task].returns
        if type(binding) is FromParam and scope.owner is None:
            known = self._plan.param_types
            if binding.name in known:
                return ValueType.of(known[binding.name])
        return ANY

    def argument(self, row: Row, arg: Arg) -> Value:
        """The value of one argument of `row`."""
        scope = row.scope
        if scope.fragment is not None:
            return self.resolve(arg.value, scope)
        items = scope.values
        assert isinstance(items, Items)
        return items.each[arg.name][row.item] if arg.each else items.shared[arg.name]

    # --- arguments of a call ------------------------------------------------------------------

    def quick_arguments(self, row: Row, task: LiveTask) -> dict[str, object] | None:
        """Arguments made without waiting, or None where one needs `arguments`."""
        made: dict[str, object] = {}
        scope = row.scope
        inside = scope.fragment is not None
        for arg in row.node.args:
            binding = arg.value
            if inside and type(binding) is FromNode and not binding.path:
                value: object = scope.rows[binding.node].value
            else:
                value = self.argument(row, arg)
            kind = type(value)
            reader = task.inputs.get(arg.name) or task.input(arg.name)
            if kind is reader.exact or (kind in SCALARS and reader is ANY):
                made[arg.name] = value
            elif kind is Live and type(binding) is not FromProvided:
                assert type(value) is Live
                made[arg.name] = value.value
            elif kind is Part or kind is Live or kind is Compound or _away(value):
                return None
            else:
                made[arg.name] = reader.decode(value)  # type: ignore[arg-type] # not a Part
        return made

    async def arguments(self, row: Row, task: LiveTask, context: NodeContext) -> dict[str, object]:
        """Arguments of a call in this process: fresh values, blobs fetched, live objects."""
        made: dict[str, object] = {}
        for arg in row.node.args:
            if type(arg.value) is FromProvided:
                made[arg.name] = self._object(arg.value.name, row, context)
                continue
            reader = task.input(arg.name)
            if reader is ANY:
                reader = self._type_of(arg.value, row.scope)
            value = self.argument(row, arg)
            made[arg.name] = await self.load(value, reader, context, reveal=True)
        return made

    def _object(self, name: str, row: Row, context: NodeContext) -> object:
        if name == CONTEXT:
            return context
        return failure_in(row.scope) if name == FAILURE else self._provided[name]

    async def load(
        self, value: Value, reader: ValueType, place: Place, *, reveal: bool = False
    ) -> object:
        """The live form of a value: decoded, fetched, projected.

        `reveal`: it is for a node that runs in this process, so secrets are put in; for all else
        they stay references.
        """
        if isinstance(value, Part):
            whole = await self.load(value.stored, value.type, place, reveal=reveal)
            for step in value.path:
                whole = apply_step(whole, step.key, attribute=step.attribute)
            return whole
        if type(value) is Compound and _has_parts(value):
            return await self._load_parts(value, place, reveal=reveal)
        if isinstance(value, Live):
            return value.value
        if needs_settling(value):
            value = await self._constant(value)
        if needs_bringing(value):
            self.brought = True
            value = await bring(value, self._catalog, place.incoming)
        if holds_secret(value):
            if reveal:
                return await self._reveal(value, reader)
            reader = ANY
        return reader.decode(value)

    async def _reveal(self, value: Stored, reader: ValueType) -> object:
        """The value with its secrets; in a thread, since a provider may wait for anything."""
        secrets = self._secrets
        if secrets is None:
            message = f"Secret({secret_names(value)[0]!r}): this engine has no secret providers"
            raise SecretError(message)
        shown = await anyio.to_thread.run_sync(reveal_all, value, secrets.resolve)
        return decode_secret(reader, value, shown)

    async def _mask(self, made: Mapping[str, Stored], work: Work | None) -> None:
        """Know the secrets of an attempt elsewhere, so that they are masked in its output."""
        names = dict.fromkeys(secret_names(*made.values()))
        if type(work) is Shell:
            names |= dict.fromkeys(name for _, name in work.secrets)
        secrets = self._secrets
        if names and secrets is not None:
            for name in names:
                # Where it cannot be had here it may still be there, and the node says if not.
                with contextlib.suppress(SecretError):
                    await anyio.to_thread.run_sync(secrets.resolve, name)

    async def _constant(self, value: Stored) -> Durable:
        """A file or a large value that is written in the graph: to the catalog, once a run."""
        known = self._constants.get(id(value))
        if known is None:
            known = self._constants[id(value)] = await settle(value, self._catalog)
        return known

    async def _load_parts(self, value: Compound, place: Place, *, reveal: bool) -> object:
        items = [await self.load(item, ANY, place, reveal=reveal) for item in value.items]
        if value.kind == "dict":
            return dict(zip(value.keys, items, strict=True))
        return tuple(items) if value.kind == "tuple" else items

    async def durable_inputs(
        self, row: Row, folder: Path, work: Work | None = None
    ) -> dict[str, Stored]:
        """Arguments for a worker elsewhere: stored values only, large ones in the catalog."""
        made: dict[str, Stored] = {}
        for arg in row.node.args:
            if type(arg.value) is not FromProvided or arg.value.name == FAILURE:
                made[arg.name] = await self.durable(self.argument(row, arg), folder)
        await self._mask(made, work)
        return made

    async def durable(self, value: Value, folder: Path) -> Durable:
        """A form of `value` that can leave the process; NoCodec where it has none."""
        if isinstance(value, Compound) and _has_parts(value):
            # Piece by piece: files stay blobs, and secrets stay references.
            items = tuple([await self.durable(item, folder) for item in value.items])
            return Compound(value.kind, items, value.keys)
        if isinstance(value, Part):
            made = ANY.encode(await self.load(value, ANY, Folder(folder)))
            return await settle(made, self._catalog)
        if isinstance(value, Live):
            return await settle(ANY.encode(value.value), self._catalog)
        return await self._constant(value) if needs_settling(value) else _plain(value)

    async def final(self, scope: Scope, folder: Path) -> Stored:
        """The value of the whole run: durable where it can be."""
        value = self.resolve(self._plan.root.result, scope)
        try:
            return await self.durable(value, folder)
        except NoCodec:
            return Live(await self.load(value, ANY, Folder(folder)))

    # --- results ------------------------------------------------------------------------------

    def encode(self, task: LiveTask, value: object) -> Stored:
        """The stored form of a result; it may need settling. ValueMismatch, NoCodec."""
        try:
            return task.returns.encode(value)
        except NoCodec:
            if self._durable:
                raise
            # Nothing outlives this process here: the object itself goes on.
            return Live(value)

    async def store(self, task: LiveTask, value: object) -> Stored:
        """The stored form of a result, large ones in the catalog."""
        return await self.settle(self.encode(task, value))

    async def settle(self, value: Stored) -> Stored:
        """Large values and files to the catalog."""
        if not isinstance(value, Live) and needs_settling(value):
            return await settle(value, self._catalog)
        return value

    # --- scopes -------------------------------------------------------------------------------

    def parameters(self, row: Row, body: Fragment | None, args: Sequence[Arg]) -> dict[str, Value]:
        """The parameter values of the body that `row` opens, bound by `args`."""
        assert body is not None
        values: dict[str, Value] = {param.name: param.default for param in body.params}
        shared = row.scope.values
        if isinstance(shared, Rounds):
            return values | shared.shared | {STATE: shared.state}
        for arg in args:
            values[arg.name] = self.argument(row, arg)
        return values

    async def items(self, row: Row, folder: Path) -> tuple[Items, int] | Failure:
        """What the map `row` iterates over and how many items; or what is wrong with it."""
        shared: dict[str, Value] = {}
        each: dict[str, Sequence[Value]] = {}
        for arg in row.node.args:
            value = self.argument(row, arg)
            if not arg.each:
                shared[arg.name] = value
            elif type(value) is Compound and value.kind in SEQUENCES:
                each[arg.name] = value.items
            else:
                whole = await self.load(value, self._type_of(arg.value, row.scope), Folder(folder))
                if isinstance(whole, (str, bytes, Mapping)) or not isinstance(whole, Collection):
                    message = f"each({arg.name}) needs a list, not {type(whole).__name__}"
                    return Failure("error", message, "MapError")
                each[arg.name] = await self._items_of(whole)
        lengths = {name: len(values) for name, values in each.items()}
        if len(set(lengths.values())) > 1:
            said = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            message = f"each() arguments go together and need the same length: {said}"
            return Failure("error", message, "MapError")
        return Items(shared, each), next(iter(lengths.values()))

    async def _items_of(self, whole: Iterable[object]) -> list[Value]:
        made: list[Value] = []
        for item in whole:
            try:
                made.append(ANY.encode(item))
            except NoCodec:
                made.append(Live(item))
            if not len(made) % PIECE:
                await anyio.lowlevel.checkpoint()
        return made

    def gather(self, row: Row) -> Value:
        """The value of a composite that ended well."""
        body = row.body
        assert body is not None
        if body.fragment is not None:
            return self.resolve(body.fragment.result, body)
        if isinstance(body.values, Rounds):
            return body.values.state
        if row.node.tolerant and body.failed:
            return Compound("list", tuple([_value_or_failure(item) for item in body.rows]))
        return Compound("list", tuple([item.value for item in body.rows]))  # type: ignore[misc] # opaque there


def failure_in(scope: Scope) -> Failure | None:
    """What the innermost rescue around `scope` was opened with."""
    owner = scope.owner
    while owner is not None:
        if owner.kind == "rescue":
            return owner.failure
        owner = owner.scope.owner
    return None


def _value_or_failure(row: Row) -> Stored:
    if row.state is SUCCEEDED:
        return row.value  # type: ignore[return-value] # opaque there
    return FAILURES.encode(row.failure)


def _away(value: object) -> bool:
    return type(value) is Encoded and (
        value.data is None or value.codec == CODEC or needs_settling(value)
    )


def _has_parts(value: Compound) -> bool:
    """Whether a part or a live object is anywhere in it; then it is loaded piece by piece."""
    todo: list[Compound] = [value]
    while todo:
        for item in todo.pop().items:
            kind = type(item)
            if kind in SCALARS or kind is Encoded:
                continue
            if kind is Compound:
                assert type(item) is Compound
                todo.append(item)
            else:
                return True
    return False


def _member(value: Compound, step: Step) -> Value:
    key = step.key
    if value.kind == "dict" and isinstance(key, str) and key in value.keys:
        return value.items[value.keys.index(key)]
    if (
        value.kind != "dict"
        and isinstance(key, int)
        and -len(value.items) <= key < len(value.items)
    ):
        return value.items[key]
    return Part(value, (step,), ANY)


def _plain(value: Stored) -> Durable:
    if isinstance(value, Live):  # pragma: no cover - `durable` takes these first
        message = "a live object reached a place for durable values"
        raise InternalError(message)
    return value
