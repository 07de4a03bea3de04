"""README and docs tell the truth: their code runs, their links lead somewhere, their tables are fresh.

A Python block with a title is written to that file and run, or only written where it makes no
sense alone. Lines of console blocks that begin with `$` are run, in the page's own folder. A block
below `<!-- not run: reason -->` is only parsed; one below `<!-- exit code: N -->` ends with N.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tests.project import generated
from tests.project.tree import ROOT, product, short

PAGES = [
    ROOT / "README.md",
    ROOT / "ARCHITECTURE.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
NOT_RUN = re.compile(r"<!-- not run: .{5,} -->")
EXIT_CODE = re.compile(r"<!-- exit code: (\d+) -->")
TITLE = re.compile(r'title="([^"]+)"')
LONGEST = 50.0
"""Seconds that one command of a page may take: a guard against hanging."""


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file it is for, its text, and what was said above it."""

    language: str
    title: str
    text: str
    line: int
    runs: bool
    exit_code: int


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    above = ""
    for token in MarkdownIt().parse(page.read_text("utf-8")):
        if token.type == "html_block":
            above = token.content
        elif token.type == "fence":
            title = TITLE.search(token.info)
            code = EXIT_CODE.search(above)
            yield Block(
                language=token.info.split(" ")[0],
                title=title[1] if title else "",
                text=token.content,
                line=(token.map or [0])[0] + 1,
                runs=NOT_RUN.search(above) is None,
                exit_code=int(code[1]) if code else 0,
            )
            above = ""


def run(words: list[str] | str, folder: Path, exit_code: int) -> None:
    """Run a command of a page: argv, or a line as a reader would type it."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONWARNINGS": "error",
    }
    line = words if isinstance(words, list) else ["bash", "-c", words]
    done = subprocess.run(
        line,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )
    assert done.returncode == exit_code, f"{words}\n{done.stdout}{done.stderr}"


def commands(block: Block) -> list[str]:
    """What a console block tells the reader to type."""
    return [line[2:] for line in block.text.splitlines() if line.startswith("$ ")]


@pytest.mark.parametrize("page", PAGES, ids=short)
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    for block in blocks(page):
        if block.language == "python":
            ast.parse(block.text)
        elif block.language == "toml":
            tomllib.loads(block.text)
        if block.title:
            (tmp_path / block.title).parent.mkdir(exist_ok=True)
            (tmp_path / block.title).write_text(block.text)
        if not block.runs:
            continue
        if block.language == "python" and block.title:
            run([sys.executable, block.title], tmp_path, block.exit_code)
        elif block.language == "console":
            for command in commands(block):
                run(command, tmp_path, block.exit_code)


@pytest.mark.parametrize("page", PAGES, ids=short)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    inside = [target for target in targets if "://" not in target]
    assert [target for target in inside if not (page.parent / target).exists()] == []


def test_no_page_has_a_gap() -> None:
    assert [short(page) for page in PAGES if "PLACEHOLDER" in page.read_text("utf-8")] == []


def test_every_page_of_docs_is_in_the_contents() -> None:
    nav = (ROOT / "zensical.toml").read_text()
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    assert set(re.findall(r'"([a-z/-]+\.md)"', nav)) == pages


@pytest.mark.parametrize("page", generated.pages(), ids=short)
def test_generated_parts_are_up_to_date(page: Path) -> None:
    text = page.read_text("utf-8")
    assert generated.renewed(text) == text, "say: python -m tests.project.generated"


def test_every_generator_has_its_place() -> None:
    text = "".join(page.read_text("utf-8") for page in generated.pages())
    assert {match["name"] for match in generated.BLOCK.finditer(text)} == set(generated.GENERATORS)


def test_paths_that_the_architecture_names_exist() -> None:
    """`engine/x.py` and `engine/x.py:name` in the text are files and names that are there."""
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    named = re.findall(r"`((?:engine|backends|storage|tests|src)/[\w/]+\.py)(?::([\w.]+))?`", text)
    assert named
    for path, name in named:
        source = (ROOT / path).read_text("utf-8")
        if name:
            assert re.search(rf"(def|class) {name.rpartition('.')[2]}\b", source), f"{path}:{name}"


def test_every_code_of_a_graph_error_is_in_the_table() -> None:
    used = {
        code for path in product() for code in re.findall(r"\bG[0-9]{3}\b", path.read_text("utf-8"))
    }
    table = generated.graph_codes()
    assert {code for code in used if f"`{code}`" not in table} == set()
