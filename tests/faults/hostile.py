"""Hostile texts: names that no name may be, and values that would do something if they were read."""

from __future__ import annotations

import random
from pathlib import Path

NAMES = (
    ".",
    "..",
    "../x",
    "..\\x",
    "a/b",
    "a/../b",
    "/etc/passwd",
    "~root",
    "a\0b",
    "a\n",
    "a\nb",
    "a\r",
    "\t",
    " ",
    "a b",
    " a",
    "\u202ea",
    "a\u200fb",
    "a\u200b",
    "\ufeffa",
    "\u00e9",
    "\uff41",
    "a\u0301",
    "-rf",
    "--help",
    "1a",
    "a" * 129,
    "a" * 4096,
    "$(id)",
    "`id`",
    "a;id",
    "a|id",
    "a&b",
    "$HOME",
    "${IFS}",
    "%s",
    "{{=1}}",
    "{{inputs.parameters.x}}",
    "{name}",
    "a: b",
    "a #b",
    "!!python/name:os.system",
    "&a",
    "*a",
    "<<",
    "|",
    "a'b",
    'a"b',
    "a[0]",
    "a?then",
    "a*",
    "a:b",
    "a=b",
    "a,b",
    "a@b",
    "a+b",
)
"""None of these may name anything."""


_SNIPPETS = (
    "$(TOUCH)",
    "`TOUCH`",
    "; TOUCH ;",
    "\nTOUCH\n",
    "| TOUCH",
    "& TOUCH &",
    "'; TOUCH; '",
    '"; TOUCH; "',
    "' || TOUCH #",
    "${IFS}TOUCH",
    "__import__('os').system('TOUCH')",
    "{{=sh('TOUCH')}}",
    "{{= __import__('os').system('TOUCH') }}",
    "{{inputs.parameters.x}}",
    "{{workflow.name}}",
    "{v0}",
    "{{v1}}",
    "{v0}{v1}",
    "$ONREADY_INPUT_V0",
    "!!python/object/apply:os.system ['TOUCH']",
    "!!python/object/new:subprocess.Popen [['touch', 'CANARY']]",
    "&a [*a, *a]",
    "<<: *a",
    "%YAML 1.1\n---\n",
    "- yes\n- 0777\n- 1:30\n- ~\n",
    "key: |\n  text\n",
    "#!/bin/sh\nTOUCH\n",
    "-exec TOUCH \\;",
    "-rf",
    "--",
    "--help",
    "-",
    "../../../../etc/passwd",
    "/dev/stdin",
    "%n%s%x",
    "%%",
    "\\0\\x00\\n\\",
    "'",
    '"',
    "\\",
    "\\'",
    "$'",
    "\r\n",
    "\n",
    "\t",
    " ",
    "\x1b[31m\x1b]0;title\x07",
    "\x7f\x01\x08",
    "\u202e\u200f\u2066",
    "\ufeff",
    "\u2028\u2029\x85",
    "\u00e9e\u0301",
    "\U0001f511\U0001f3f3\ufe0f\u200d\U0001f308",
    "\ufffd\uffff\U0010ffff",
    "null",
    "true",
    "NaN",
    "1e999",
    '{"$part": 1}',
    '{"$secret": "HOME"}',
    "Secret('HOME')",
    "$tuple",
    "<script>alert(1)</script>",
    "'; DROP TABLE events; --",
    "x" * 4096,
)
"""TOUCH stands for a command that makes the canary, CANARY for its path."""


def snippets(canary: Path) -> tuple[str, ...]:
    """Texts each of which makes `canary`, or does other harm, where something executes it."""
    return tuple(
        text.replace("TOUCH", f"touch {canary}").replace("CANARY", str(canary))
        for text in _SNIPPETS
    )


def texts(seed: int, count: int, canary: Path) -> list[str]:
    """`count` texts of such pieces: each piece alone first, then at random."""
    draw = random.Random(seed)
    pieces = snippets(canary)
    made = list(pieces)
    while len(made) < count:
        made.append("".join(draw.choices(pieces[:-1], k=draw.randint(0, 5))))
    return made[:count]


def values(seed: int, count: int, canary: Path) -> list[object]:
    """`count` values of several types with such texts in them, also as keys."""
    draw = random.Random(seed)
    words = [*texts(seed, 400, canary), "\0", "a\0b", "\ud800", "\udcff\udcfe", ""]
    return [_value(draw, words, 2) for _ in range(count)]


def _value(draw: random.Random, words: list[str], depth: int) -> object:
    kind = draw.randrange(8 if depth else 5)
    word = draw.choice(words)
    if kind < 3:
        return word
    if kind == 3:
        return word.encode("utf-8", "surrogatepass")
    if kind == 4:
        return draw.choice((None, True, -(2**70), 2**63, 0.1, -0.0, float("inf"), 1e308))
    items = [_value(draw, words, depth - 1) for _ in range(draw.randrange(4))]
    if kind == 5:
        return items
    if kind == 6:
        return tuple(items)
    keys = draw.choices([*words, "$part", "$tuple", "$leaf", "__class__", "$secret"], k=len(items))
    return dict(zip(keys, items, strict=True))
