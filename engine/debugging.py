"""One node of a recorded run once more: which node it is, and what it was given, as live values.

For whoever wants to look at it under a debugger. The run itself is not touched: nothing is
appended to its log, no record is written.

Rule of this room: reads the catalog; whoever calls runs the function, and shows what it says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio.to_thread

from onready.engine.errors import ConfigError, Failure, SecretError
from onready.engine.names import NodeKey
from onready.engine.plan.arguments import Known, MadeOf, PartOf, Unknown
from onready.engine.plan.model import Fragment, FromProvided, Plan, PlanNode, TaskRuntime
from onready.engine.spi import Catalog, Secrets, Shell
from onready.engine.values import (
    ValueType,
    apply_step,
    bring,
    needs_bringing,
    needs_settling,
    settle,
)
from onready.engine.values.secret import decode_secret, holds_secret, reveal, secret_names
from onready.engine.values.stored import Live, Stored

ANY: Final = ValueType.any()
CONTEXT: Final = "NodeContext"
FAILURE: Final = "Failure"


def find_node(plan: Plan, key: NodeKey) -> PlanNode | None:
    """The node of which `key` is an instance; None where the plan has none."""
    parts: list[NodeKey] = []
    here: NodeKey | None = key
    while here is not None:
        parts.append(here)
        here = here.parent
    fragment: Fragment | None = plan.root
    node: PlanNode | None = None
    for part in reversed(parts):
        if fragment is None:
            return None
        node = next((node for node in fragment.nodes if node.name == part.name), None)
        if node is None:
            return None
        arm = next((arm.body for arm in node.arms if arm.name == part.arm), None)
        fragment = arm if node.body is None else node.body
    return node


@dataclass(slots=True)
class Given:
    """What a node was given, out of its run's log: brought and decoded by `live`.

    `folder` is where files among the values are put. `failure` is what a handler's `Failure` was.
    `secrets` has the values of secrets, which are known by name only.
    """

    plan: Plan
    catalog: Catalog
    folder: Path
    failure: Failure | None = None
    secrets: Secrets | None = None

    async def live(
        self, node: PlanNode, arguments: Mapping[str, Known], context: object
    ) -> dict[str, object]:
        """The live arguments of a call of `node`, a task node of the plan, which is linked.

        ConfigError where one is not to be had here: a live object of the host's, or a value that
        was never recorded. ValueMismatch where one does not fit its parameter any more.
        """
        assert node.task is not None
        runtime = self.plan.runtimes[node.task]
        made: dict[str, object] = {}
        for arg in node.args:
            if isinstance(arg.value, FromProvided):
                made[arg.name] = self._provided(arg.name, arg.value.name, context)
            else:
                made[arg.name] = await self._argument(arg.name, arguments[arg.name], runtime)
        return made

    async def stored(self, node: PlanNode, arguments: Mapping[str, Known]) -> dict[str, Stored]:
        """As `live`, in stored form and with all blobs brought: for a program."""
        made: dict[str, Stored] = {}
        for arg in node.args:
            known = arguments[arg.name]
            if isinstance(known, Unknown):
                value = ANY.encode(await self._value(arg.name, known))
                known = await settle(value, self.catalog) if needs_settling(value) else value
            brought = await self._brought(known)
            made[arg.name] = await self._revealed(brought) if holds_secret(brought) else brought
        return made

    async def variables(self, shell: Shell) -> dict[str, str]:
        """The variables of a program whose values are secrets."""
        return {variable: await self._resolved(name) for variable, name in shell.secrets}

    async def _revealed(self, stored: Stored) -> Stored:
        known = {name: await self._resolved(name) for name in secret_names(stored)}
        return reveal(stored, known.__getitem__)

    async def _resolved(self, name: str) -> str:
        if self.secrets is None:
            message = f"Secret({name!r}): there are no secret providers"
            raise SecretError(message)
        # In a thread: a provider may wait for anything.
        return await anyio.to_thread.run_sync(self.secrets.resolve, name)

    def _provided(self, parameter: str, name: str, context: object) -> object:
        if name == CONTEXT:
            return context
        if name == FAILURE and self.failure is not None:
            return self.failure
        message = (
            f"its parameter {parameter!r} wants the live object {name!r}, which only the program "
            "that started the run can give"
        )
        raise ConfigError(message)

    async def _argument(self, name: str, known: Known, runtime: TaskRuntime) -> object:
        reader = ValueType.of(runtime.accepts[name]) if name in runtime.accepts else ANY
        if not isinstance(known, Unknown):
            brought = await self._brought(known)
            if holds_secret(brought):
                return decode_secret(reader, brought, await self._revealed(brought))
            return reader.decode(brought)
        value = await self._value(name, known)
        stored = ANY.encode(value)
        # A part of a value is read as the parameter wants it; a file among it is there as it is.
        return value if needs_settling(stored) else reader.decode(stored)

    async def _value(self, name: str, known: Known) -> object:
        """The live form of what has to be put together first."""
        if isinstance(known, PartOf):
            whole = self._returns(known.task).decode(await self._brought(known.whole))
            for step in known.path:
                whole = apply_step(whole, step.key, attribute=step.attribute)
            return whole
        if isinstance(known, MadeOf):
            items = [await self._value(name, item) for item in known.items]
            if known.kind == "dict":
                return dict(zip(known.keys, items, strict=True))
            return tuple(items) if known.kind == "tuple" else items
        if isinstance(known, Unknown):
            message = f"what its parameter {name!r} was given is not recorded"
            raise ConfigError(message)
        return ANY.decode(await self._brought(known))

    def _returns(self, task: int | None) -> ValueType:
        if task is None or not self.plan.runtimes[task].typed_return:
            return ANY
        return ValueType.of(self.plan.runtimes[task].returns, self.plan.tasks[task].codec)

    async def _brought(self, value: Stored) -> Stored:
        if isinstance(value, Live):  # pragma: no cover - a run log that is durable has none
            return value
        if needs_settling(value):
            value = await settle(value, self.catalog)
        return await bring(value, self.catalog, self.folder) if needs_bringing(value) else value
