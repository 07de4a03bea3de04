"""The contracts that plug-ins write against: backends, run logs, catalogs.

All are Protocols with few methods: implement them, do not inherit. `onready.engine.testing` has a
contract suite per protocol; a plug-in's tests run it.

Rule of this room: no implementation. It sees names, errors, options, events and stored values.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import msgspec

from onready.engine.errors import Failure
from onready.engine.events import AnyEvent, RunStatus
from onready.engine.names import NodeKey
from onready.engine.options import Resources
from onready.engine.values.stored import Durable, Stored

# --- work: what an attempt runs ---------------------------------------------------------------


class Call(msgspec.Struct, frozen=True, tag="call"):
    """A Python function, by reference.

    `reference` is `module:qualname`, or `path.py:qualname` with an absolute path where the graph
    was loaded from a file. `codec` is the opt-in codec of the task's result (`"pickle"`), or "".
    """

    reference: str
    codec: str = ""


class Shell(msgspec.Struct, frozen=True, tag="shell"):
    """A program: `{name}` in an element of `argv` stands for the text of the input `name`.

    A brace text whose name is in no input is left alone. What is filled in stays one argument or
    a part of one; it is never read again. Every input is also the environment variable
    `ONREADY_INPUT_<NAME>`, the name in capitals. No shell is started but one that `argv` names.
    `outputs` are paths, relative to the attempt's work folder, that it must leave behind; with
    none the result is what it wrote to standard output, as text without the last newline.
    """

    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    image: str = ""
    secrets: tuple[tuple[str, str], ...] = ()
    """Variables whose values are secrets: pairs of the variable and the secret's name."""


Work = Call | Shell


@dataclass(slots=True)
class Attempt:
    """One try of one node, as a backend gets it.

    `name` is the dispatch name: derived from (run, key, number), unique, and the same after a
    crash. `inputs` are stored values by parameter name. `timeout` and `grace` are in seconds;
    `grace` is to be read when the attempt is stopped, and may become less while it is;
    the engine enforces the timeout by cancelling `execute`, backends may also pass it on.
    `function` is the live function for in-process and forked use; backends that leave the process
    use `work`. `provided` holds the live objects of in-process backends. `folder` is a private
    scratch folder that exists while the attempt runs, made by whoever needs it (mode 0700).
    `fenced` is set, before `execute` or `recover` is cancelled, where another driver has taken the
    run over: see `Backend`.
    `secrets` has the values of secrets among the inputs and in `work`, for backends that start
    programs; what starts a worker passes on `secrets.settings` alone.
    """

    run: str
    key: NodeKey
    number: int
    epoch: int
    name: str
    backend: str
    work: Work
    inputs: Mapping[str, Stored]
    resources: Resources
    catalog: Catalog
    folder: Path
    timeout: float | None = None
    grace: float = 10.0
    options: Mapping[str, object] = field(default_factory=dict)
    fingerprint: str = ""
    function: Callable[..., object] | None = None
    provided: Mapping[str, object] = field(default_factory=dict)
    fenced: bool = False
    secrets: Secrets | None = None


# --- outcomes ---------------------------------------------------------------------------------


class Succeeded(msgspec.Struct, frozen=True, tag="succeeded"):
    """The attempt ended well; `value` is durable for every out-of-process backend."""

    value: Stored = None


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The attempt ended badly, and this is known."""

    failure: Failure


class Lost(msgspec.Struct, frozen=True, tag="lost"):
    """What became of the attempt cannot be known."""

    failure: Failure


Outcome = Succeeded | Failed | Lost


# --- backends ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do; checked when the graph is compiled.

    `in_process`: runs in the driver's process, so live objects can be given to it and functions
    need no importable name. `coroutines`: the dispatcher itself runs them (the `inline` backend).
    `python`, `shell`: kinds of work it takes. `image`, `gpu`: obeys these options. `adopt`:
    attempts outlive the driver and `recover` finds them. `logs`: keeps what attempts write.
    `barrier`: submitting is an effect that outlives the driver, so `attempt.planned` must be
    durable first. `concurrency`: default limit of live attempts (0 = only the engine's).
    `options`: names of backend options that tasks may set; None where nobody knows. `check`: what
    is wrong with a task's options, or with what they lack, in words that go on from the backend's
    name; "" for nothing.
    """

    in_process: bool = False
    coroutines: bool = False
    python: bool = True
    shell: bool = False
    image: bool = False
    gpu: bool = False
    adopt: bool = False
    logs: bool = False
    barrier: bool = True
    concurrency: int = 0
    options: frozenset[str] | None = frozenset()
    check: Callable[[Mapping[str, object], Work], str] | None = None


class Reporter(Protocol):
    """What an attempt has to say while it runs. Every method may be called from any thread."""

    def started(self, handle: str) -> None:
        """The attempt runs; `handle` is the backend's opaque reference to it. At most once."""
        ...

    def log(self, stream: Literal["stdout", "stderr"], data: bytes) -> None:
        """Output of the attempt, in order, complete, not cut at lines."""
        ...

    def progress(self, fraction: float | None, message: str) -> None:
        """How far it is: 0 to 1, or None where unknown."""
        ...

    def warning(self, code: str, message: str) -> None:
        """Something to say that is no failure."""
        ...

    def tail(self, lines: int) -> tuple[str, ...]:
        """The last lines that were given to `log`, for a Failure."""
        ...


class Labels(msgspec.Struct, frozen=True):
    """What every external thing of ours is labelled with."""

    run: str
    node: str
    attempt: int
    epoch: int


@runtime_checkable
class Backend(Protocol):
    """Where attempts run.

    `execute` owns the attempt from submission to its end, and returns its outcome: a failure of
    the user's work is `Failed`, never an exception. An exception means that the backend itself
    could not do its part: `BackendError`, retryable or not. Cancelling `execute` means: stop the
    real thing (TERM, `attempt.grace` seconds, KILL; the whole process group, container or Job),
    inside a shield with a deadline, then re-raise the cancellation. One exception: where
    `attempt.fenced` is set by then, another driver has adopted what a backend with `adopt` runs,
    so it is left alone; what cannot be adopted is stopped as ever. Submission is idempotent:
    the external name is `attempt.name`; "already exists" means adopt after comparing labels, else
    fail loudly. Streams from outside only wake it up; inspection decides.
    """

    @property
    def capabilities(self) -> Capabilities: ...

    async def execute(self, attempt: Attempt, report: Reporter) -> Outcome: ...

    async def recover(self, attempt: Attempt, report: Reporter) -> Outcome | None:
        """After a driver crash: re-attach by `attempt.name` and own it as `execute` does.

        None means that it never started, or that nothing of it is left and it is safe to start
        it again under a new number.
        """
        ...

    async def sweep(self, keep: Callable[[Labels], bool]) -> int:
        """Remove leftovers that carry our labels and that `keep` does not want; their number."""
        ...


class CallResult(Protocol):
    """Where a bulk backend puts what became of one call."""

    def __call__(self, token: object, value: object, error: BaseException | None) -> None: ...


@runtime_checkable
class BulkBackend(Protocol):
    """An in-process backend that takes plain calls in bulk: threads.

    It exists because a coroutine per call would cost more than most calls. `submit` never
    blocks and never runs a call on the caller's thread. For each call the pool runs
    `run(*args)` in a thread and then `done(token, value, error)` in that same thread; whoever
    submits makes `done` thread-safe. At most `limit` calls run at once. `withdraw` takes a call
    back that has not begun: True if it will not run; a call that has begun cannot be stopped.
    """

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def limit(self) -> int: ...

    def submit(self, calls: Sequence[BulkCall], done: CallResult) -> None: ...

    def withdraw(self, token: object) -> bool: ...


@dataclass(slots=True, eq=False)
class BulkCall:
    """One call for a bulk backend; `token` is the submitter's own."""

    token: object
    run: Callable[[], object]


# --- stores -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to drive one run until it is released or expires. `epoch` only ever rises."""

    run: str
    epoch: int
    duration: float
    owner: str


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One line of a run log's index. Times are UTC seconds since the epoch."""

    run: str
    name: str
    graph: str
    status: RunStatus
    created: float
    ended: float | None
    last_seq: int
    target: str = ""
    fingerprint: str = ""
    owner: str = ""
    """Who holds the run's lease, expired or not; "" where it was given back or never taken."""


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs to list: newest first, at most `limit`."""

    status: RunStatus | None = None
    graph: str = ""
    prefix: str = ""
    """Runs whose id begins with it, or whose friendly name equals it."""
    limit: int = 100


class RunLog(Protocol):
    """The append-only facts of every run. One driver writes a run, under a lease.

    `append` returns when the events are durable, and they become durable in order: no later
    event without all earlier ones. Events of one call are atomic: all or none. An append with an
    epoch lower than the newest lease's is refused with `StaleEpoch` and changes nothing; so is
    one whose first `seq` does not follow the last (`StoreError`). Any number of runs may append
    at once.
    """

    durable: bool
    """False: it lives and dies with this process, and may hold live objects."""

    async def append(self, run: str, epoch: int, events: Sequence[AnyEvent]) -> None: ...

    def read(self, run: str, after: int = 0) -> AsyncIterator[Sequence[AnyEvent]]:
        """Events of `run` with `seq > after` that are durable, in order, in batches; then ends."""
        ...

    async def runs(self, query: RunFilter) -> Sequence[RunRecord]: ...

    async def lease(self, run: str, owner: str, duration: float, dead: str = "") -> Lease:
        """Take the lease of `run`, new or old: `RunLeaseHeld`, with its owner, while another does.

        `dead` is an owner that is known to have died: its lease counts as expired. Of several
        who ask at once, one gets it.
        """
        ...

    async def renew(self, lease: Lease) -> None:
        """Extend by its duration from now; `StaleEpoch` where another took it meanwhile."""
        ...

    async def release(self, lease: Lease) -> None:
        """Give it back; no error where it is gone already."""
        ...


class Mount(msgspec.Struct, frozen=True):
    """A host path or a volume claim that must be visible at `target` in the container."""

    source: str
    target: str
    read_only: bool = False
    claim: bool = False


class Access(msgspec.Struct, frozen=True):
    """How a worker elsewhere reaches a catalog; backends apply it blindly.

    `url` is the catalog's address as seen there; `environment` are plain variables, `secrets`
    variables by secret reference.
    """

    url: str
    mounts: tuple[Mount, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    secrets: tuple[tuple[str, str], ...] = ()


class Catalog(Protocol):
    """Content-addressed blobs and named records, reachable from every node.

    A digest is the BLAKE3 hash of the content, in hex (64 characters). `put` of content that is
    there already succeeds and stores nothing twice. Names are `/`-separated, each part
    `[A-Za-z0-9_.@=+-]` and not `.` or `..`; anything else is refused with `StoreError`. `get` and
    `read` of what is not there raise `KeyError`. What `put` or `put_if_absent` reported is durable.
    """

    durable: bool

    async def put(self, content: bytes | Path) -> str: ...

    async def get(self, digest: str) -> bytes: ...

    async def fetch(self, digest: str, target: Path) -> None:
        """Write a blob to the new file `target` (0600), whole or not at all."""
        ...

    async def put_if_absent(self, name: str, content: bytes) -> bool:
        """Create the record: True, or False and nothing changed where it exists. Atomic."""
        ...

    async def read(self, name: str) -> bytes: ...

    async def remove(self, name: str) -> bool:
        """Remove the record: True, or False where there was none. Its name is free again.

        Of several that remove it at once, at least one is told True. Only records can be removed,
        never blobs: `put` may at any moment report that the same content is there already.
        """
        ...

    async def list(self, prefix: str) -> Sequence[str]:
        """Names of records that begin with `prefix`, sorted."""
        ...

    def access(self, where: Literal["host", "container", "cluster"]) -> Access:
        """How a worker there reaches it; `StoreError` where it cannot."""
        ...


# --- secrets ----------------------------------------------------------------------------------


@runtime_checkable
class SecretProvider(Protocol):
    """Where the values of secrets are: the environment, a folder, a vault.

    `get` may block and may be called from any thread; it is never called in an event loop, and
    workers, which have none, call it too. None means that it has no such secret; an exception,
    that it cannot say: that is tried again where the node has retries. Names keep the grammar of
    names, so none has a slash or begins with a dot. It is asked anew for each attempt: keep what
    is expensive to fetch.
    """

    def get(self, name: str, /) -> str | None: ...


class Secrets(Protocol):
    """The providers of an engine, in their order."""

    @property
    def settings(self) -> str:
        """The providers' settings as JSON, for a worker to open the same; no secret's value."""
        ...

    def resolve(self, name: str, /) -> str:
        """The value, and from now on it is masked in this process. It may block.

        SecretError where no provider has it, StoreError where one could not say.
        """
        ...


# --- the one-node command --------------------------------------------------------------------


class Envelope(msgspec.Struct, frozen=True):
    """What `onready execute-single-node` gets: all of one attempt, and nothing secret.

    `catalog` is the catalog's address as seen where the worker runs; the result record goes to
    `runs/<run>/results/<dispatch name>.json` in it.
    """

    run: str
    node: str
    attempt: int
    epoch: int
    name: str
    work: Work
    inputs: dict[str, Durable]
    catalog: str
    fingerprint: str = ""
    timeout: float | None = None
    version: int = 1
    secrets: str = ""
    """Settings of the secret providers (`Secrets.settings`), where an input is a secret."""


class ResultRecord(msgspec.Struct, frozen=True):
    """The worker's commit: created once per (key, attempt), never changed."""

    run: str
    node: str
    attempt: int
    epoch: int
    outcome: Outcome
    started: float
    ended: float
    version: int = 1


def result_name(run: str, name: str) -> str:
    """The record's name in the catalog, for a run id and a dispatch name."""
    return f"runs/{run}/results/{name}.json"
