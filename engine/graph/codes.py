"""The codes of graph errors: what each means and what cures it.

The table is data: the docs' page is made of it, and a test holds that each code has a test.
Codes are stable: one is never given another meaning.

Rule of this room: the table, and how an error is made of it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import Enum
from typing import Final

from onready.engine.errors import GraphError
from onready.engine.names import Location


class Code(Enum):
    """A code of the table; its value is (what is wrong, what to do about it)."""

    # --- calls -----------------------------------------------------------------------------
    G001 = (
        "A task, a graph or `shell` was called outside a graph.",
        (
            "Call it inside a @graph function; run it alone with engine.run(name.bind(...)); or "
            "call the plain function: name.fn(...)."
        ),
    )
    G002 = ("A call leaves out an input that has no default.", "Give the input.")
    G003 = ("A call gives an input that the function does not have.", "Use one of its parameters.")
    G004 = (
        "A call gives an input twice, or more positional arguments than there are parameters.",
        "Give each input once.",
    )
    G005 = (
        "A value does not fit the annotation of where it goes.",
        "Change the annotation or the value.",
    )
    G006 = (
        "A call inside a graph function leads back to the same graph.",
        "Take the recursion into one task: a graph's shape is fixed before it runs.",
    )
    # --- refs ------------------------------------------------------------------------------
    G010 = (
        "A value that is not there yet was used as a truth value, as in `if ref`.",
        (
            "Choose with branch(ref, a.bind(...), b.bind(...)) or switch(ref, {...}); loop with "
            "repeat(...); or decide inside a task: it sees the value."
        ),
    )
    G011 = (
        "len() of a value that is not there yet.",
        (
            "Take the length inside a task: it sees the value. To do something for each item, "
            "use .map(each(ref))."
        ),
    )
    G012 = (
        "A loop or an unpacking over a value whose number of items is not known yet.",
        (
            "Start one node per item with .map(each(ref)); go on until something is true with "
            "repeat(...); to unpack, annotate the return type with the number of items, as "
            "tuple[int, str]."
        ),
    )
    G013 = (
        "A value that is not there yet was compared, computed with, printed, called or changed.",
        (
            "Do it inside a task: it sees the value; to choose by what it says use branch(...) or "
            "switch(...). In a graph, refs are only passed on, or taken apart with "
            'ref["key"], ref[0] and ref.attribute.'
        ),
    )
    G014 = ("A ref of another graph.", "Pass the value into this graph as an argument.")
    G015 = (
        "A ref in a place where the engine cannot fill it in: in a set, an object, a dict's key.",
        "Put refs in arguments, or in lists, tuples and dicts with text keys as arguments.",
    )
    # --- names and edges -------------------------------------------------------------------
    G020 = ("Two nodes of one graph have the same explicit name.", "Give them two names.")
    G021 = (
        "A name that breaks the grammar of names.",
        "Begin with a letter or `_`; go on with letters, digits, `_`, `.` and `-`; at most 128.",
    )
    G022 = (
        "`after=` holds something that is no node of this graph.",
        "Give the results of calls in this graph; a GraphBuilder takes names of nodes too.",
    )
    G023 = ("The nodes of a graph wait for each other in a circle.", "Take one edge away.")
    # --- maps ------------------------------------------------------------------------------
    G030 = ("each() outside an argument of .map().", "Write name.map(each(values)).")
    G031 = ("A .map() without each().", "Wrap what to iterate over: name.map(each(values)).")
    G032 = (
        "each() of something that is no sequence of items.",
        "Give a list, a tuple, another iterable with an order, or a ref to a list.",
    )
    # --- composites ------------------------------------------------------------------------
    G033 = (
        "What a branch, a switch or a rescue is to run is no bound task or graph.",
        "Give name.bind(...), with refs of this graph among its arguments where it needs them.",
    )
    G034 = (
        "The arms of a switch are no dict, or a key is no text, whole number or truth value.",
        'Write switch(ref, {"a": one.bind(...), "b": other.bind(...)}, default=...).',
    )
    G035 = (
        "The body or the test of a repeat is none, or has no parameter for the state.",
        (
            "Give a task (the body may be a graph) that takes the state, or "
            "functools.partial(task, ...) that fixes its other arguments."
        ),
    )
    G036 = (
        "A map's consumers disagree: one takes failures of its items, another does not.",
        "Annotate both with Sequence[T | Failure], or neither.",
    )
    # --- definitions -----------------------------------------------------------------------
    G040 = (
        (
            "The decorated function cannot be a task or a graph: *args, a generator, an async "
            "graph, or not a function."
        ),
        "Write a function with named parameters.",
    )
    G041 = ("An option has a value that it cannot have.", "Correct the value.")
    G042 = (
        "Provided(...) is used in a way that it cannot work.",
        'Write Provided("name") or Provided(NodeContext) as the default of a task\'s parameter.',
    )
    G043 = (
        "The command of a shell node is wrong.",
        "Write a list of arguments, or one text that splits as a shell's words.",
    )
    G044 = (
        "An input of a shell node is pasted into program text.",
        (
            'Use the environment variable in the script: "$ONREADY_INPUT_NAME"; or a positional '
            'argument: ["sh", "-c", \'echo "$1"\', "sh", "{name}"].'
        ),
    )
    G045 = ("A GraphBuilder was changed after build().", "Add everything first, then build once.")
    G046 = (
        "A task wants the failure, Provided(Failure), and no rescue gives it one.",
        "Call it in the handler of a rescue: rescue(body.bind(...), handler.bind(...)).",
    )
    G048 = (
        "Secret(...) is used in a way that it cannot work, or that would show it.",
        "Pass it to the task that uses it; give it to a program as an environment variable.",
    )
    # --- backends --------------------------------------------------------------------------
    G050 = ("There is no backend of that name.", "Use one of the configured backends.")
    G051 = ("The backend cannot do what the node needs.", "Choose another backend.")
    G052 = (
        "A function that another process cannot import runs on an out-of-process backend.",
        "Define the function at the top level of a module or a file.",
    )
    G053 = (
        "A live object is provided to a node on an out-of-process backend.",
        "Run the node on an in-process backend (inline, thread), or open the object in the task.",
    )
    G054 = (
        "A task wants a provided object that nobody provides.",
        "Give it: Engine(provided={name: object}), or per run.",
    )
    G055 = ("The backend has no option of that name.", "Use one of the backend's options.")
    # --- the cache -------------------------------------------------------------------------
    G080 = (
        "A cached task takes something that its inputs and its code do not show.",
        "Make it an input of the task, or leave cache= out.",
    )

    @property
    def meaning(self) -> str:
        """What is wrong."""
        return self.value[0]

    @property
    def cure(self) -> str:
        """What to do about it."""
        return self.value[1]

    def error(self, message: str, location: Location | None, suggestion: str = "") -> GraphError:
        """The error; without a suggestion of its own it carries the table's cure."""
        return GraphError(self.name, message, location, suggestion or self.cure)


CODES: Final = {code.name: code for code in Code}
"""The table by the text of the code, in its order."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`Did you mean 'x'? ` and the whole list: what to say of a word that is not known."""
    words = sorted(known)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    guess = f"Did you mean {close[0]!r}? " if close else ""
    return f"{guess}There {'are' if len(words) != 1 else 'is'}: {', '.join(words) or 'none'}."
