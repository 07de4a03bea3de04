"""The results as a table of text, or as JSON.

Rule of this room: rounds and prints; judges nothing that the rows do not say themselves.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.bounds import Bounds
from benchmarks.measure import median
from benchmarks.replay import Replay
from benchmarks.startup import Startup
from benchmarks.suite import Row

MOST_GROWTH: Final = 1.3
"""The ratio at 100k nodes to the ratio at 10k, at most."""

MARK: Final = "<!-- results -->"

HEADER: Final = (
    f"{'scenario':<34}{'floor us':>9}{'engine us':>10}{'ratio':>7}{'limit':>6}"
    f"{'floor ms':>10}{'engine ms':>10}{'wall x':>7}{'build us':>9}{'plan us':>8}"
)


class Machine(msgspec.Struct, frozen=True):
    """Where and when."""

    date: str
    python: str
    system: str
    processor: str
    cores: int
    load: float
    """Processes that wanted a core in the minute before: above zero, wall times tell little."""


class Report(msgspec.Struct):
    """All results of one call."""

    machine: Machine
    pairs: int
    rows: list[Row] = []
    bounds: list[Bounds] = []
    replay: Replay | None = None
    startup: Startup | None = None

    @property
    def good(self) -> bool:
        """Whether everything measured kept its limit."""
        checks = [*self._verdicts(), *growth(self.rows)]
        return all(row.good for row in self.rows) and all(
            not most or value <= most for _, value, most, _ in checks
        )

    def _verdicts(self) -> list[tuple[str, float, float, str]]:
        found = [verdict for bounds in self.bounds for verdict in bounds.verdicts()]
        for extra in (self.replay, self.startup):
            found += extra.verdicts() if extra is not None else []
        return found


def this_machine() -> Machine:
    """The machine that this runs on."""
    return Machine(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        system=f"{platform.system()} {platform.release()}",
        processor=_processor(),
        cores=os.cpu_count() or 1,
        load=round(os.getloadavg()[0], 1),
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def row_line(row: Row) -> str:
    """One line of the table: processor time a node, its ratio, wall time of the whole."""
    scenario = row.scenario
    if row.error:
        return f"{scenario.name:<34}  {row.error.splitlines()[-1] if row.error else ''}"
    scale = 1e6 / scenario.size
    floor = scale * median([pair.floor.cpu for pair in row.pairs])
    engine = scale * median([pair.engine.cpu for pair in row.pairs])
    limit = f"{scenario.limit:.1f}" if scenario.limit else ""
    built = scale * scenario.runs * row.setup.get("build", 0.0)
    planned = scale * scenario.runs * row.setup.get("compile", 0.0)
    floor_wall = 1e3 * median([pair.floor.wall for pair in row.pairs])
    engine_wall = 1e3 * median([pair.engine.wall for pair in row.pairs])
    return (
        f"{scenario.name:<34}{floor:>9.2f}{engine:>10.2f}{row.ratio:>7.2f}{limit:>6}"
        f"{floor_wall:>10.1f}{engine_wall:>10.1f}{row.wall_ratio:>7.2f}"
        f"{built:>9.1f}{planned:>8.1f}{'' if row.good else '  OVER'}"
    )


def growth(rows: Sequence[Row]) -> list[tuple[str, float, float, str]]:
    """(what, ratio at 100k by ratio at 10k, most, unit) of each shape measured at both."""
    found: list[tuple[str, float, float, str]] = []
    small = {_family(row): row for row in rows if row.scenario.size == 10_000 and row.pairs}
    for row in rows:
        base = small.get(_family(row))
        if row.scenario.size == 100_000 and row.pairs and base is not None:
            name = f"{'/'.join(map(str, _family(row)[:3]))}: ratio at 100k by that at 10k"
            found.append((name, row.ratio / base.ratio, MOST_GROWTH, ""))
    return found


def _family(row: Row) -> tuple[str, str, str, int]:
    scenario = row.scenario
    return (scenario.kind, scenario.log, scenario.shape, scenario.runs)


def verdict_line(verdict: tuple[str, float, float, str]) -> str:
    """One line for one bound."""
    what, value, most, unit = verdict
    limit = f"(at most {most:g})" if most else ""
    over = "  OVER" if most and value > most else ""
    return f"  {what:<46}{value:>10.2f} {unit:<4}{limit}{over}"


def tail_lines(report: Report) -> Iterator[str]:
    """What comes after the table: growth, bounds of the large map, start-up."""
    grown = growth(report.rows)
    if grown:
        yield ""
        yield from map(verdict_line, grown)
    for bounds in report.bounds:
        yield ""
        cost = 1e6 * bounds.cpu / bounds.nodes
        yield f"map of {bounds.nodes} nodes, {bounds.log}: {cost:.2f} us a node"
        yield from map(verdict_line, bounds.verdicts())
    if report.replay is not None:
        yield ""
        yield f"resume of a run with {report.replay.nodes} nodes, sqlite"
        yield from map(verdict_line, report.replay.verdicts())
    if report.startup is not None:
        yield ""
        yield "start-up"
        yield from map(verdict_line, report.startup.verdicts())


def legend(report: Report) -> list[str]:
    """What the columns mean, and where this was measured."""
    at = report.machine
    return [
        f"{at.date}, {at.python}, {at.system}, {at.cores} x {at.processor}, load {at.load}",
        "us: processor time (user and system, children included) a node, in microseconds;",
        f"ratio: engine to floor, median of {report.pairs} interleaved pairs;",
        "ms: wall time of a run; wall x: to the floor's (sleep: to the ideal);",
        "build, plan: building and compiling the graph, once, not in the ratio.",
    ]


def as_text(report: Report) -> str:
    """The whole report as text."""
    lines = [*legend(report), "", HEADER, *map(row_line, report.rows), *tail_lines(report)]
    return "\n".join(lines)


def record(report: Report, page: Path) -> None:
    """Put the report as text into a page, in place of what follows its `results` mark."""
    head, mark, _ = page.read_text().partition(MARK)
    if not mark:
        message = f"{page} has no line {MARK}"
        raise ValueError(message)
    page.write_text(f"{head}{mark}\n\n```text\n{as_text(report)}\n```\n")


def as_json(report: Report) -> str:
    """The report as JSON: every pair, and the ratios that follow from them."""
    plain = msgspec.to_builtins(report)
    for row, shown in zip(report.rows, plain["rows"], strict=True):
        shown["name"] = row.scenario.name
        shown["good"] = row.good
        if row.pairs:
            shown["ratio"] = round(row.ratio, 4)
            shown["wall_ratio"] = round(row.wall_ratio, 4)
    plain["growth"] = [{"name": name, "growth": value} for name, value, _, _ in growth(report.rows)]
    plain["good"] = report.good
    return msgspec.json.format(msgspec.json.encode(plain)).decode()
