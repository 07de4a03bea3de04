"""The error block: each failed node once, with its cause, its inputs and what to do next.

Rule of this room: a story in, lines out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from onready.cli.board import Attempted, Board, indexes_of
from onready.cli.console import Console, terminal_width
from onready.cli.history import Story
from onready.cli.words import cut, short, some, times, took
from onready.engine.errors import Failure, Frame
from onready.engine.names import NodeKey
from onready.engine.plan.arguments import Known, Unknown

MOST_BLOCKS: Final = 3
"""Failed nodes that are told in full; the others are counted."""
LOG_LINES: Final = 8
FRAMES: Final = 6
VALUE_WIDTH: Final = 36


def error_block(
    story: Story, run_name: str, console: Console, *, kept: bool = True, word: str = "last"
) -> list[str]:
    """The lines that tell how a run failed.

    `kept`: its log can still be read later. `word` is what to call the run by in commands.
    """
    board = story.board
    lines: list[str] = []
    for number, (key, failure, tried) in enumerate(board.failures[:MOST_BLOCKS]):
        title = f"run {run_name}" if number == 0 else ""
        lines += _block(story, key, failure, tried, title, console)
    if len(board.failures) > MOST_BLOCKS:
        lines.append(f"  and {len(board.failures) - MOST_BLOCKS:,} more nodes failed")
    if not board.failures:
        reason = board.reason or "no node failed"
        lines.append(_spread(console.err("x", "red") + f" {reason}", f"run {run_name}", 1))
    outcome = _outcome(board)
    if outcome:
        lines.append(f"  {outcome}")
    steps = [f"onready logs {word} {key}" for key in _logged(board)]
    steps.append(f"onready retry {word}")
    if kept:
        lines.append(f"  {console.err('next:', 'bold')} {' | '.join(steps)}")
    return lines


def _block(
    story: Story, key: NodeKey, failure: Failure, tried: Attempted, title: str, console: Console
) -> list[str]:
    arguments, own = story.arguments(key)
    shown = [f"{name}={_value(arguments[name])}" for name in arguments if name in own]
    parts = [
        f"{console.err('x', 'red')} {console.err(str(key), 'bold')}",
        *shown,
        _how(failure, tried),
    ]
    lines = [_spread("  ".join(parts), title, 2)]
    lines += [f"  {line}" for line in _cause(failure)]
    lines += [f"    {line}" for line in frame_lines(failure.frames)]
    if failure.log and not failure.frames:
        lines += [f"    | {cut(line, 200)}" for line in failure.log[-LOG_LINES:]]
    if arguments:
        inputs = [f"{name}={_value(value)}" for name, value in arguments.items()]
        lines.append(f"  inputs  {some(inputs, 8, '  ')}")
    return lines


def _spread(left: str, right: str, painted: int) -> str:
    """`right` at the terminal's right edge, or two blanks behind `left` where it is narrow."""
    if not right:
        return left
    visible = len(left) - (painted * 8 if "\x1b[" in left else 0)
    room = min(terminal_width(), 100) - visible - len(right)
    return f"{left}{' ' * max(room, 2)}{right}"


def _how(failure: Failure, tried: Attempted) -> str:
    word = "lost" if failure.kind == "lost" else "failed"
    attempts = f" after {tried.attempt} attempts" if tried.attempt > 1 else ""
    details = [tried.backend] if tried.backend else []
    if tried.first is not None and tried.ended is not None:
        details.append(took(tried.ended - tried.first))
    return f"{word}{attempts} ({', '.join(details)})" if details else f"{word}{attempts}"


def _cause(failure: Failure) -> list[str]:
    lines = str(failure).splitlines() or [failure.kind]
    if failure.kind not in {"error", "config"} and failure.kind not in lines[0].lower():
        lines[0] = f"{failure.kind}: {lines[0]}"
    if failure.reason and failure.reason not in "\n".join(lines):
        lines.append(f"({cut(failure.reason, 200)})")
    return lines


def frame_lines(frames: Sequence[Frame]) -> Iterator[str]:
    """Frames as `pipeline.py:13 in train     raise ValueError(...)`, aligned; long stacks cut."""
    shown = list(frames)
    if len(shown) > FRAMES:
        shown = [*shown[:1], *shown[-(FRAMES - 1) :]]
    places = [f"{short(frame.file)}:{frame.line} in {frame.function}" for frame in shown]
    width = max((len(place) for place in places), default=0)
    for place, frame in zip(places, shown, strict=True):
        yield f"{place.ljust(width)}     {frame.code}".rstrip()


def user_frames(error: BaseException) -> list[str]:
    """The lines of the user's own frames in an exception; of a SyntaxError, its line."""
    from onready.engine.failure import user_frames as frames_of

    frames = [frame for frame in frames_of(error.__traceback__) if _is_users(frame)]
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        frames.append(Frame(error.filename, error.lineno, "<module>", (error.text or "").strip()))
    return list(frame_lines(frames))


def _is_users(frame: Frame) -> bool:
    """False for the import machinery, which is all there is where a module is not found."""
    return not frame.file.startswith("<frozen") and "importlib" not in Path(frame.file).parts


def _value(value: Known) -> str:
    if isinstance(value, Unknown):
        return "..."
    from onready.engine.values import summarise

    return summarise(value, VALUE_WIDTH)


def _outcome(board: Board) -> str:
    """What did not run, and what was done and is kept."""
    skipped = [_skipped(board, key, reason) for key, reason in board.skipped]
    kept: list[str] = []
    for row in board.rows.values():
        good = row.good
        if not good:
            continue
        if not row.many:
            kept.append(row.name)
        elif good <= len(row.kept):
            kept += [str(key) for key in sorted(row.kept, key=indexes_of)]
        else:
            kept.append(f"{row.name} {times(good)}")
    parts = []
    if skipped:
        parts.append(f"not run: {some(skipped)}")
    if kept:
        parts.append(f"kept: {some(kept)}")
    return "; ".join(parts)


def _skipped(board: Board, key: NodeKey, reason: str) -> str:
    """A node that did not run and why; of a map that failed, the item that is to blame."""
    needed = reason.removeprefix("needs ")
    for failed, _, _ in board.failures:
        text = str(failed)
        if reason != needed and text.startswith(needed) and text[len(needed) :][:1] in {"[", "/"}:
            return f"{key} (needs {text})"
    return f"{key} ({reason})" if reason else str(key)


def _logged(board: Board) -> list[NodeKey]:
    """The first failed node that wrote something, if there is one."""
    failed = [key for key, _, _ in board.failures if any(node == key for node, _ in board.logged)]
    return failed[:1]


def failure_json(failure: Failure) -> dict[str, object]:
    """A failure for programs: the fields of `Failure` by name."""
    fields = msgspec.structs.asdict(failure)
    fields["frames"] = [msgspec.structs.asdict(frame) for frame in failure.frames]
    return {name: value for name, value in fields.items() if name != "bases"}
