"""`onready init`: a small example and a commented configuration, in a folder of your choice.

Rule of this room: never overwrites anything.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from onready.cli.console import Console
from onready.cli.exits import Usage

CONFIG: Final = """\
# Settings of onready. All of them are optional: these are the defaults.
# Order: flag, then ONREADY_* variable, then profile, then this file.
# {{VAR}} in a text is filled from the environment. `onready config show` tells what holds.

# run_log = "sqlite:.onready/runs.db"     # the facts of every run
# catalog = "file:.onready/catalog"       # values too large for the log, and artefacts
# folder = ".onready"                     # logs of nodes, scratch folders
# max_parallel = 8                        # nodes that may run at once
# grace = 10.0                            # seconds between a polite stop and a kill

# [pools]                                 # named slots: @task(pool="database")
# database = 2

# [backends.pair]                         # a backend of your own: @task(backend="pair")
# type = "process"                        # warm worker processes ...
# workers = 2                             # ... two of them

# [profiles.big]                          # `onready run ... --profile big`
# max_parallel = 64
"""

EXAMPLE: Final = '''\
"""Word counts of some texts, in parallel: a first graph to change.

    onready run words.py
    onready run words.py --top 3
    onready graph words.py
"""

from collections import Counter

from onready import each, graph, task

TEXTS = [
    "the cat sat on the mat",
    "the dog lay by the door",
    "the cat and the dog ran to the door",
]


@task
def split(text: str) -> list[str]:
    """A plain function: runs in a thread."""
    return text.split()


@task(backend="process")
def count(words: list[str]) -> dict[str, int]:
    """Heavy work: runs in a warm worker process."""
    return dict(Counter(words))


@task
async def merge(counts: list[dict[str, int]], top: int) -> dict[str, int]:
    """An async function: runs in the event loop."""
    total: Counter[str] = Counter()
    for some in counts:
        total.update(some)
    return dict(total.most_common(top))


@graph
def words(texts: list[str] = TEXTS, top: int = 5) -> dict[str, int]:
    """The most frequent words of all texts."""
    lists = split.map(each(texts))  # one node per text, all at once
    counts = count.map(each(lists))
    return merge(counts, top)
'''

FILES: Final = {"words.py": EXAMPLE, "onready.toml": CONFIG}


def init(
    folder: Annotated[Path, Parameter(help="Where to write; made if need be.")] = Path(),
) -> int:
    """Write words.py, a small graph, and a commented onready.toml. Nothing is overwritten."""
    console = Console()
    there = [name for name in FILES if (folder / name).exists()]
    if there:
        names = " and ".join(there)
        message = f"onready init: {folder.resolve()} has {names} already; nothing was written"
        raise Usage(message)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in FILES.items():
            with (folder / name).open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        message = f"onready init: {error}"
        raise Usage(message) from error
    place = "" if folder == Path() else f"{folder}/"
    console.out(f"wrote {place}words.py and {place}onready.toml")
    enter = "" if folder == Path() else f"cd {folder} && "
    console.say(f"next: {enter}onready run words.py")
    return 0
