"""The application: which verbs there are, and what an error means for the exit code.

Rule of this room: verbs are named here and imported when used.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Final, NamedTuple

from cyclopts import App, CycloptsError
from cyclopts.exceptions import MissingArgumentError, UnknownCommandError

from onready.cli.console import Console
from onready.cli.exits import CANCELLED, INTERNAL, OK, USAGE, Exit, code_of
from onready.cli.words import inside
from onready.engine.errors import GraphError, InternalError, OnreadyError
from onready.engine.settings import did_you_mean

ABOUT: Final = """Run graphs of Python functions and programs, in parallel, in one event loop.

TARGET is `file.py`, `file.py:graph`, `package.module:graph`, or the built-in `hello`.
RUN is a run's id, the beginning of one, its name, or `last`.

New here? `onready run hello`, then `onready init`."""


HELP_FLAGS: Final = ("--help", "-h")


REPORT_IT: Final = "this is a fault of onready: please report it with the lines above"


class Verb(NamedTuple):
    """A verb: its module and function, and its line in the overview."""

    target: str
    help: str


VERBS: Final[dict[str, Verb]] = {
    "init": Verb("onready.cli.init:init", "Write a small example and a commented onready.toml."),
    "run": Verb("onready.cli.run:run", "Run a graph; its parameters are flags."),
    "plan": Verb("onready.cli.graphs:plan", "Check a graph and show what would run, and where."),
    "list": Verb("onready.cli.graphs:list_graphs", "The graphs in a file or folder."),
    "graph": Verb("onready.cli.graphs:graph", "Draw a graph."),
    "runs": Verb("onready.cli.runs:runs", "The runs so far, newest first."),
    "show": Verb("onready.cli.runs:show", "One run: its nodes, times and failures."),
    "logs": Verb("onready.cli.logs:logs", "What nodes wrote to stdout and stderr."),
    "events": Verb("onready.cli.events:events", "The events of a run."),
    "cache": Verb(
        "onready.cli.cache:list_entries", "Values of cached tasks; why one was not used."
    ),
    "resume": Verb("onready.cli.resume:resume", "Go on with an interrupted run."),
    "retry": Verb("onready.cli.resume:retry", "Run again what failed or was cancelled in a run."),
    "cancel": Verb("onready.cli.cancel:cancel", "Cancel a run, whichever process drives it."),
    "diff": Verb("onready.cli.diff:diff", "What differs between two runs, or a run and the code."),
    "debug": Verb("onready.cli.debug:debug", "Run one node of a run again here, with its inputs."),
    "verify": Verb("onready.cli.verify:verify", "Check the record of a run against the rules."),
    "doctor": Verb("onready.cli.doctor:doctor", "Check this machine, and say how to mend it."),
    "gc": Verb("onready.cli.gc:gc", "Remove what runs left whose driver died."),
    "config": Verb("onready.cli.settings:show", "The configuration, and where it comes from."),
    "completion": Verb("onready.cli.completion:completion", "A completion script for your shell."),
}


def build_app() -> App:
    """The application with all verbs, none of them imported."""
    app = App(
        name="onready",
        help=ABOUT,
        help_format="markdown",
        version=f"onready {version('onready')}",
        result_action="return_value",
        default_parameter=None,
    )
    for position, (name, verb) in enumerate(VERBS.items()):
        # `run --help` is ours: it also lists the parameters of its target.
        if name == "config":
            _add_config(app, verb, position)
            continue
        if name == "cache":
            _add_cache(app, verb, position)
            continue
        flags = [] if name == "run" else HELP_FLAGS
        app.command(verb.target, name=name, help=verb.help, sort_key=position, help_flags=flags)
    return app


def _add_config(app: App, verb: Verb, position: int) -> None:
    """`config` has verbs of its own."""
    inner = App(name="config", help=verb.help, sort_key=position, version_flags=[])
    inner.command(verb.target, name="show", help="Every setting, and where it came from.")
    app.command(inner)


def _add_cache(app: App, verb: Verb, position: int) -> None:
    """`cache` has verbs of its own."""
    inner = App(name="cache", help=verb.help, sort_key=position, version_flags=[])
    inner.command(verb.target, name="ls", help="The values in the cache, oldest first.")
    why = "Whether a node's value was taken from the cache in a run, and why not."
    inner.command("onready.cli.cache:why", name="why", help=why)
    clear = "Forget the values in the cache, or those of one task."
    inner.command("onready.cli.cache:clear", name="clear", help=clear)
    app.command(inner)


def run_app(words: Sequence[str]) -> int:
    """Run one command; its exit code. Errors are said on stderr, once."""
    console = Console()
    try:
        if words[:1] == ["run"] and _wants_help(words):
            from onready.cli.run import run_help

            return run_help([word for word in words[1:] if word not in HELP_FLAGS])
        app = build_app()
        result = app(words or ["--help"], exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except CycloptsError as error:
        console.complain(usage_message(error, words))
        return USAGE
    except Exit as error:
        if error.text:
            console.complain(error.text)
        return error.code
    except OnreadyError as error:
        console.complain(error_message(error, console))
        return code_of(error)
    except BrokenPipeError:
        # Whoever read our output has enough, as `head` does: no error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except Exception as error:  # noqa: BLE001 - the last place that can say what happened
        return _unexpected(error, console)
    except KeyboardInterrupt:
        console.complain("interrupted")
        return CANCELLED
    return result if isinstance(result, int) else OK


def _unexpected(error: Exception, console: Console) -> int:
    """A fault of ours, or an error of ours that came out wrapped by a task group."""
    inner: BaseException = error
    while isinstance(inner, BaseExceptionGroup) and len(inner.exceptions) == 1:
        inner = inner.exceptions[0]
    if isinstance(inner, OnreadyError):
        console.complain(error_message(inner, console))
        return code_of(inner)
    import traceback

    console.complain("".join(traceback.format_exception(inner)).rstrip())
    console.complain(f"{console.err('error:', 'red')} {REPORT_IT}")
    return INTERNAL


def _wants_help(words: Sequence[str]) -> bool:
    """Whether help is asked for, in front of a `--`: what is behind it is the graph's."""
    own = words[: words.index("--")] if "--" in words else words
    return any(word in HELP_FLAGS for word in own)


def usage_message(error: CycloptsError, words: Sequence[str]) -> str:
    """What is wrong with the command line, and where to read how it is done."""
    error.verbose = False
    text = " ".join(str(error).split())
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        name = error.argument.name
        text = f"{name} needs a value" if name.startswith("-") else f"{name} is missing"
    if isinstance(error, UnknownCommandError):
        word = next((word for word in words if not word.startswith("-")), "")
        return f"onready: no verb {word!r}{did_you_mean(word, VERBS)}\n  verbs: {', '.join(VERBS)}"
    verb = words[0] if words and words[0] in VERBS else ""
    return f"onready{f' {verb}' if verb else ''}: {text}\n  see: onready {verb} --help".replace(
        "  --help", " --help"
    )


def error_message(error: OnreadyError, console: Console) -> str:
    """An error in words; for a fault in the user's own file, the user's own frames."""
    head = console.err("error:", "red")
    text = inside(str(error))
    if isinstance(error, GraphError) and error.__cause__ is not None:
        from onready.cli.failure import user_frames

        text = "\n".join([text, *(f"    {line}" for line in user_frames(error.__cause__))])
    if isinstance(error, InternalError):
        text += f"\n  {REPORT_IT}"
    return f"{head} {text}"
