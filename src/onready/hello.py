"""The built-in graph `hello`: parallel branches and a map, no file, network or setting needed.

    onready run hello
    onready run hello --name Ada --languages French Finnish

Rule of this room: what a newcomer reads first; only the public API.
"""

from __future__ import annotations

import asyncio
import time

from onready import each, graph, task

WORDS = {
    "English": "hello",
    "French": "bonjour",
    "Spanish": "hola",
    "Swahili": "jambo",
    "Finnish": "hei",
    "Hawaiian": "aloha",
}


@task
async def choose(languages: list[str]) -> list[str]:
    """The word for hello in each language."""
    return [WORDS.get(language, f"hello ({language})") for language in languages]


@task
async def greet(word: str) -> str:
    """One greeting. All of them wait at the same time."""
    await asyncio.sleep(0.2)
    return word


@task
def measure(name: str) -> int:
    """The number of letters: a plain function runs in a thread."""
    time.sleep(0.1)
    return sum(letter.isalpha() for letter in name)


@task
async def write(greetings: list[str], name: str, letters: int) -> str:
    """The letter, of everything that came before."""
    return f"{', '.join(greetings)}, {name}! ({len(greetings)} languages, {letters} letters)"


@graph
def hello(name: str = "world", languages: list[str] = list(WORDS)) -> str:  # noqa: B006 - read only
    """Say hello in several languages at once, and count letters meanwhile."""
    greetings = greet.map(each(choose(languages)))
    return write(greetings, name, measure(name))
