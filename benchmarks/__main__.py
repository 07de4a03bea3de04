"""The command: `python -m benchmarks [profile] [options]`.

Rule of this room: words and flags; what is measured and how is in the other modules.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from benchmarks.bounds import run_bounds
from benchmarks.profiling import profile
from benchmarks.replay import measure_replay
from benchmarks.report import (
    HEADER,
    Report,
    as_json,
    legend,
    record,
    row_line,
    tail_lines,
    this_machine,
)
from benchmarks.scenarios import LOGS, SIZES, Scenario, scenarios
from benchmarks.shapes import SHAPES
from benchmarks.startup import measure_startup
from benchmarks.suite import run_all

README = Path(__file__).with_name("README.md")
EXTRAS = ("map/memory", "map/sqlite", "replay", "startup")


def main(argv: Sequence[str] | None = None) -> int:
    """0: everything measured kept its limit; 1: something did not; 2: wrong usage."""
    options = _parser().parse_args(argv)
    if options.command == "profile":
        scenario = Scenario(options.kind, options.log, options.shape, options.size)
        print(profile(scenario, top=options.top, sort=options.sort, output=options.output))
        return 0
    return _measure(options)


def _measure(options: argparse.Namespace) -> int:
    wanted: list[str] = options.only
    chosen = [one for one in scenarios(options.sizes) if _matches(one.name, wanted)]
    extras = [name for name in EXTRAS if _matches(name, wanted)]
    if options.list:
        print("\n".join([*(one.name for one in chosen), *extras]))
        return 0
    if not chosen and not extras:
        print(f"nothing matches {', '.join(wanted)}; --list shows all names", file=sys.stderr)
        return 2
    report = Report(this_machine(), options.pairs)
    text = options.format == "text"
    if text:
        print("\n".join([*legend(report), "", HEADER]), flush=True)
    for row in run_all(chosen, options.pairs):
        report.rows.append(row)
        if text:
            print(row_line(row), flush=True)
    for log in LOGS:
        if f"map/{log}" in extras:
            report.bounds.append(run_bounds(log, options.map_size))
    if "replay" in extras:
        report.replay = measure_replay(options.map_size)
    if "startup" in extras:
        report.startup = measure_startup(options.pairs)
    print("\n".join(tail_lines(report)) if text else as_json(report), flush=True)
    if options.record:
        record(report, README)
    if options.output is not None:
        options.output.write_text(as_json(report) + "\n")
    return 0 if report.good else 1


def _matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a pattern is a glob that fits the name, or a part of it."""
    return not patterns or any(
        fnmatchcase(name, pattern) or f"/{pattern}/" in f"/{name}/" for pattern in patterns
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure what the engine costs a node, beside a hand-written floor.",
        epilog="`python -m benchmarks profile --help` for profiles.",
    )
    parser.add_argument(
        "--only",
        type=_words,
        default=[],
        metavar="NAMES",
        help="comma separated globs or parts of names, such as async/memory or */chain/10000",
    )
    parser.add_argument(
        "--sizes",
        type=_numbers,
        default=list(SIZES),
        metavar="NUMBERS",
        help="comma separated numbers of nodes (default 1000,10000,100000)",
    )
    parser.add_argument("--pairs", type=_count, default=5, help="pairs a scenario (default 5)")
    parser.add_argument(
        "--map-size",
        type=_count,
        default=100_000,
        metavar="N",
        help="nodes of the large map and of the replay",
    )
    parser.add_argument("--format", choices=("text", "json"), default="text")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the JSON there")
    parser.add_argument(
        "--record", action="store_true", help="also put the table into benchmarks/README.md"
    )
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    profiled = parser.add_subparsers(dest="command", metavar="").add_parser(
        "profile", help="show where the engine's time goes"
    )
    profiled.add_argument(
        "--kind", choices=("async", "sleep", "thread", "process"), default="async"
    )
    profiled.add_argument("--shape", choices=tuple(SHAPES), default="layered")
    profiled.add_argument("--size", type=_count, default=10_000)
    profiled.add_argument("--log", choices=("memory", "sqlite"), default="memory")
    profiled.add_argument("--top", type=_count, default=25, help="lines (default 25)")
    profiled.add_argument("--sort", choices=("tottime", "cumtime", "ncalls"), default="tottime")
    profiled.add_argument(
        "--output", type=Path, metavar="FILE", help="the profile: text for *.txt, else for pstats"
    )
    return parser


def _words(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def _numbers(text: str) -> list[int]:
    return [_count(part) for part in _words(text)]


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        message = f"{text} is not a positive number"
        raise argparse.ArgumentTypeError(message)
    return number


if __name__ == "__main__":
    sys.exit(main())
