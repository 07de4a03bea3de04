"""Shell commands: programs as nodes.

The command is split into arguments before any value is filled in, so that a value is always one
argument or a part of one. A value is never pasted into the text of a program: a script given to
an interpreter (`sh -c`, `python -c`) gets its values from the environment or as its arguments. A
secret is never an argument: command lines are public on a machine.

Rule of this room: builds the command and checks it; backends run it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, cast, overload

import msgspec

from onready.engine.graph.codes import Code, did_you_mean
from onready.engine.graph.functions import MISSING
from onready.engine.graph.locate import here
from onready.engine.graph.recorder import Recorder, recording
from onready.engine.graph.refs import Ref, entries_of
from onready.engine.graph.secrets import refuse_in_arguments
from onready.engine.graph.settings import OptionValue, TaskOptions, read_options, truth
from onready.engine.names import is_name
from onready.engine.options import Resources, Retry
from onready.engine.spi import Shell
from onready.engine.values.secret import SecretRef

if TYPE_CHECKING:
    from onready.engine.values import File

_PLACEHOLDER: Final = re.compile(r"(?<!\{)\{([A-Za-z_][A-Za-z0-9_]*)\}(?!\})")
_LITERAL: Final = re.compile(r"\{\{([A-Za-z_][A-Za-z0-9_]*)\}\}")
_INTERPRETER: Final = re.compile(r"(ba|da|z|k|a)?sh|fish|python[0-9.]*|perl|ruby|node|php")
_SCRIPT_FLAG: Final = re.compile(r"-[A-Za-z]*[cer]|--eval|--command")
_ASSIGNMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_DEFAULTS: Final = TaskOptions()


class ShellCommand:
    """A command as what a node calls. Commands with equal `work` and options are one task."""

    def __init__(self, label: str, work: Shell, options: TaskOptions) -> None:
        self.label = label
        self.work = work
        self.options = options

    @property
    def result_annotation(self) -> object:
        """A text, or the files that the command leaves behind, by path."""
        if not self.work.outputs:
            return str
        from onready.engine.values import File

        return dict[str, File]


@overload
def shell(
    command: str | Sequence[object],
    *,
    inputs: Mapping[str, object] | None = None,
    outputs: None = None,
    environment: Mapping[str, str] | None = None,
    name: str = "",
    after: Sequence[object] = (),
    always: bool = False,
    retry: Retry | int = 0,
    timeout: float | None = None,
    node_timeout: float | None = None,
    backend: str = "",
    pool: str = "",
    resources: Resources | None = None,
    cache: bool | str = False,
    image: str = "",
    options: Mapping[str, OptionValue] | None = None,
) -> str: ...
@overload
def shell(  # type: ignore[overload-overlap] # a text is a sequence too; the first that fits is meant
    command: str | Sequence[object],  # pyright: ignore[reportOverlappingOverload]
    *,
    inputs: Mapping[str, object] | None = None,
    outputs: str,
    environment: Mapping[str, str] | None = None,
    name: str = "",
    after: Sequence[object] = (),
    always: bool = False,
    retry: Retry | int = 0,
    timeout: float | None = None,
    node_timeout: float | None = None,
    backend: str = "",
    pool: str = "",
    resources: Resources | None = None,
    cache: bool | str = False,
    image: str = "",
    options: Mapping[str, OptionValue] | None = None,
) -> File: ...
@overload
def shell(
    command: str | Sequence[object],
    *,
    inputs: Mapping[str, object] | None = None,
    outputs: Sequence[str],
    environment: Mapping[str, str] | None = None,
    name: str = "",
    after: Sequence[object] = (),
    always: bool = False,
    retry: Retry | int = 0,
    timeout: float | None = None,
    node_timeout: float | None = None,
    backend: str = "",
    pool: str = "",
    resources: Resources | None = None,
    cache: bool | str = False,
    image: str = "",
    options: Mapping[str, OptionValue] | None = None,
) -> dict[str, File]: ...
def shell(
    command: str | Sequence[object],
    *,
    inputs: Mapping[str, object] | None = None,
    outputs: str | Sequence[str] | None = None,
    environment: Mapping[str, str] | None = None,
    name: str = "",
    after: Sequence[object] = (),
    always: bool = False,
    **options: object,
) -> object:
    """Run a program as a node of the graph that is being traced.

    `command` is a list of arguments, or one text that is split as a shell's words are; no shell
    runs it. `{key}` in an argument is filled with the input of that name, `{{key}}` is a literal
    `{key}`. Every input is also the environment variable `ONREADY_INPUT_<KEY>` (in capitals). As
    text a value is: a text as it is; a number as Python prints it; true, false; a file its path;
    nothing (None) an empty text; all else JSON. For a script, give an explicit shell:
    `["sh", "-c", 'echo "$ONREADY_INPUT_KEY"']`; there, `{key}` inside the script is refused.

    The value is what it wrote to standard output, as text without the last newline. With
    `outputs`, paths below the folder it runs in, it is those files by path; for one path given
    as a text, that file. `environment` are further variables; a secret in it, or in `inputs`,
    reaches the program as a variable alone. With `image` it runs in a container of that image,
    and nothing of onready is needed there; the image's own entry point is not put before it.
    `after` and `always` are those of `Task.with_options`, the other options those of `task`; the
    default backend is `subprocess`, and `docker` with an image. Raises GraphError.
    """
    recorder = recording("shell(...)")
    given = {key: value for key, value in options.items() if value is not None}
    return record_shell(recorder, command, inputs, outputs, environment, name, after, always, given)


def record_shell(
    recorder: Recorder,
    command: str | Sequence[object],
    inputs: Mapping[str, object] | None,
    outputs: str | Sequence[str] | None,
    environment: Mapping[str, str] | None,
    name: str,
    after: Sequence[object],
    always: object,
    options: Mapping[str, object],
    image: str = "",
) -> Ref:
    """Add a node for a command to `recorder`, in a container of `image` where that is given."""
    values = dict(inputs or {})
    argv = read_command(command)
    _check_inputs(cast("Mapping[object, object]", values))
    _check_placeholders(argv, values)
    paths = (outputs,) if isinstance(outputs, str) else tuple(outputs or ())
    _check_outputs(paths)
    plain, secrets = _variables(environment)
    image, chosen = _settings(options, image)
    work = Shell(_with_literals(argv, values), plain, tuple(values), paths, image, secrets)
    program = argv[0].rpartition("/")[2]
    command_ = ShellCommand(program if is_name(program) else "shell", work, chosen)
    ref = recorder.add(
        command_,
        values,
        _any_value,
        "task",
        name=name,
        after=entries_of(after),
        always=truth("always", always),
    )
    return ref[outputs] if isinstance(outputs, str) else ref


def _settings(options: Mapping[str, object], image: str) -> tuple[str, TaskOptions]:
    """The image that a command names, which is a part of its work, and its options."""
    named = {"image": image} if image else {}
    chosen = read_options({**options, **named}, _DEFAULTS)
    if not image and "image" not in options:
        return "", chosen
    return chosen.image, msgspec.structs.replace(chosen, image="")


def _any_value(name: str) -> object:
    del name
    return MISSING


def read_command(command: str | Sequence[object]) -> tuple[str, ...]:
    """The arguments of a command; GraphError for what is none."""
    if isinstance(command, str):
        try:
            argv = shlex.split(command)
        except ValueError as error:
            message = f"the command {command!r:.80} does not split into words: {error}"
            raise Code.G043.error(message, here()) from error
    else:
        argv = list(cast("Sequence[str]", command))
    for part in cast("list[object]", argv):
        if type(part) is Ref:
            cure = 'Name it: shell(["make", "{target}"], inputs={"target": ref}).'
            message = "the command holds a ref"
            raise Code.G043.error(message, here(), cure)
        if not isinstance(part, str) or "\0" in part:
            message = f"the command holds {part!r:.60}, which is no text"
            raise Code.G043.error(message, here())
    if not argv or not argv[0]:
        message = "the command is empty"
        raise Code.G043.error(message, here(), "Give at least a program.")
    return tuple(argv)


def _check_inputs(values: Mapping[object, object]) -> None:
    seen: dict[str, str] = {}
    for key in values:
        if not isinstance(key, str) or not _ASSIGNMENT.match(key):
            message = f"{key!r} cannot name an input of a command"
            cure = "Use letters, digits and `_`, and begin with no digit."
            raise Code.G043.error(message, here(), cure)
        other = seen.setdefault(key.upper(), key)
        if other != key:
            message = f"the inputs {other!r} and {key!r} would be one environment variable"
            raise Code.G043.error(message, here(), "Rename one of them.")


def _check_placeholders(argv: tuple[str, ...], values: Mapping[str, object]) -> None:
    for index, part in enumerate(argv):
        for key in _PLACEHOLDER.findall(part):
            if key not in values:
                message = f"the command wants {{{key}}}, and no input has that name"
                cure = f"{did_you_mean(key, values)} Write {{{{{key}}}}} for a literal {{{key}}}."
                raise Code.G003.error(message, here(), cure)
            refuse_in_arguments(key, values)
            if _is_script(argv, index):
                message = f"{{{key}}} stands in program text, which a value could change"
                raise Code.G044.error(message, here(), _script_cure(key))
    if _PLACEHOLDER.search(argv[0]):
        message = f"the program itself, {argv[0]!r}, is an input"
        raise Code.G044.error(message, here(), "Name the program in the command.")


def _with_literals(argv: tuple[str, ...], values: Mapping[str, object]) -> tuple[str, ...]:
    """The arguments with `{{key}}` as `{key}`: backends leave alone what is no input."""
    for part in argv:
        for key in _LITERAL.findall(part):
            if key in values:
                message = f"the command has {{{{{key}}}}} for a literal text and an input {key!r}"
                raise Code.G043.error(message, here(), "Rename the input.")
    return tuple(_LITERAL.sub(r"{\1}", part) for part in argv)


def _is_script(argv: tuple[str, ...], index: int) -> bool:
    """Whether argument `index` is a script: it follows `-c` (or the like) of an interpreter."""
    if index < 2 or not _SCRIPT_FLAG.fullmatch(argv[index - 1]):
        return False
    programs = [part.rpartition("/")[2] for part in argv[: index - 1]]
    return any(_INTERPRETER.fullmatch(program) for program in programs)


def _script_cure(key: str) -> str:
    variable = f"$ONREADY_INPUT_{key.upper()}"
    return (
        f'Use "{variable}" in the script, or a positional argument: '
        f'["sh", "-c", \'echo "$1"\', "sh", "{{{key}}}"].'
    )


def _check_outputs(paths: tuple[object, ...]) -> None:
    for path in paths:
        parts = path.split("/") if isinstance(path, str) else [""]
        if not parts[0] or not parts[-1] or ".." in parts or "\0" in str(path):
            message = f"outputs= names {path!r}, which is no path below the command's folder"
            raise Code.G043.error(message, here(), 'Give a relative path: "report.txt".')


_Pairs = tuple[tuple[str, str], ...]


def _variables(environment: Mapping[str, str] | None) -> tuple[_Pairs, _Pairs]:
    """The variables with their values, and those whose values are secrets with the names."""
    plain: list[tuple[str, str]] = []
    secrets: list[tuple[str, str]] = []
    given: Mapping[str, object] = environment or {}
    for key, value in sorted(given.items(), key=lambda pair: pair[0]):
        if type(value) is SecretRef and _ASSIGNMENT.match(key):
            secrets.append((key, value.name))
            continue
        if not isinstance(value, str) or not _ASSIGNMENT.match(key) or "\0" in value:
            message = f"environment= sets {key!r} to {value!r:.60}"
            cure = "Give texts; what comes from another node belongs into inputs=."
            raise Code.G043.error(message, here(), cure)
        plain.append((key, value))
    return tuple(plain), tuple(secrets)
