"""What programs take in and leave behind: inputs as texts, files by path, standard output.

Rule of this room: folders of this machine and the catalog; who runs the program is the backend's.
"""

from __future__ import annotations

from pathlib import Path

import anyio
import msgspec

from onready.backends.relay import resolver
from onready.backends.results import TAIL
from onready.backends.text import OutputText
from onready.engine.errors import Failure, SecretError
from onready.engine.spi import Attempt, Failed, Outcome, Reporter, Shell, Succeeded
from onready.engine.values import File, ValueType, bring, needs_bringing, needs_settling, settle
from onready.engine.values.secret import reveal, secret_inputs
from onready.engine.values.stored import Encoded, Stored
from onready.engine.worker import program

_TEXT = ValueType.of(str)
_FILES = ValueType.of(dict[str, File])


async def inputs_of(shell: Shell, attempt: Attempt, left: list[str | Path]) -> dict[str, str]:
    """The inputs as texts; files among them are fetched, and their folder is added to `left`."""
    if not attempt.inputs:
        return {}
    inputs: dict[str, Stored] = dict(attempt.inputs)
    hidden = secret_inputs(inputs)
    shown = sorted(hidden & program.placeholders(shell)) if hidden else []
    if shown:
        message = f"{{{shown[0]}}} would put a secret into a command line; {program.CURE}"
        raise SecretError(message)
    for name in hidden:
        inputs[name] = await anyio.to_thread.run_sync(reveal, inputs[name], resolver(attempt))
    for name, stored in attempt.inputs.items():
        if needs_bringing(stored):
            left.append(attempt.folder)
            inputs[name] = await bring(stored, attempt.catalog, attempt.folder)
    return program.texts(inputs)


async def with_secrets(shell: Shell, attempt: Attempt) -> Shell:
    """The command with the values of its secret variables: not to be kept."""
    if not shell.secrets:
        return shell
    resolve = resolver(attempt)
    found = [
        (variable, await anyio.to_thread.run_sync(resolve, name))
        for variable, name in shell.secrets
    ]
    return msgspec.structs.replace(shell, environment=(*shell.environment, *found), secrets=())


async def collect_files(shell: Shell, attempt: Attempt, folder: str) -> Outcome:
    """The files that the program must have left in `folder`, put into the catalog."""
    fault = await anyio.to_thread.run_sync(_fault, folder, shell.outputs)
    if fault:
        message = f"{shell.argv[0]} ended well, but {fault}"
        return Failed(Failure("error", message, node=str(attempt.key), attempt=attempt.number))
    files = {path: File(Path(folder, path)) for path in shell.outputs}
    stored = _FILES.encode(files, validate=False)
    return Succeeded(await settle(stored, attempt.catalog))


def _fault(folder: str, outputs: tuple[str, ...]) -> str:
    inside = Path(folder).resolve()
    for path in outputs:
        place = Path(folder, path)
        if not place.exists():
            return f"it left no {path!r}"
        if not place.resolve().is_relative_to(inside):
            return f"{path!r} is a link that leads out of its folder"
        if not place.is_file():
            return f"{path!r} is no file"
    return ""


async def collect_text(text: OutputText, attempt: Attempt, report: Reporter) -> Outcome:
    """What the program wrote to standard output, as its value."""
    if text.spooled:
        await anyio.to_thread.run_sync(text.end)
    if not text.fault and text.spooled:
        size = (await anyio.Path(text.spool).stat()).st_size
        digest = await attempt.catalog.put(Path(text.spool))
        return Succeeded(Encoded("json", None, digest, size))
    if not text.fault:
        try:
            stored = _TEXT.encode(text.text())
        except UnicodeDecodeError as error:
            text.fault = f"standard output is not UTF-8 text: {error}"
        else:
            if needs_settling(stored):
                stored = await settle(stored, attempt.catalog)
            return Succeeded(stored)
    failure = Failure(
        "error",
        text.fault,
        "ValueMismatch",
        node=str(attempt.key),
        attempt=attempt.number,
        log=report.tail(TAIL),
    )
    return Failed(failure)
