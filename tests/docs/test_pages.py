"""What the pages say is true: their programs run, and their links lead somewhere.

A program runs on the database it names. One that names a SQLite database runs a second time with
nothing but its URL changed to a Postgres one, for that is what the pages promise.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.pages import PAGES, ROOT, blocks, shown
from tests.postgres_databases import migrated_database
from tests.postgres_kit import MAJORS

from durable_core.testing.postgres import NO_POSTGRES

LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
SQLITE = re.compile(r'"sqlite://[^"]*"')
POSTGRES = re.compile(r'"postgresql://[^"]*"')

PROGRAMS = [
    (f"{page.name}-{number}", text)
    for page in PAGES
    for number, text in enumerate(blocks(page, "python"))
]
ON_SQLITE = [(name, text) for name, text in PROGRAMS if not POSTGRES.search(text)]
ON_POSTGRES = [(name, text) for name, text in PROGRAMS if "sqlite://" in text or "postgres" in text]


def run(program: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", program],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def runs_to_its_end(text: str, folder: Path) -> str:
    program = folder / "program.py"
    program.write_text(text, encoding="utf-8")
    done = run(program, folder)
    if "the process dies here" in done.stdout:  # the quickstart's crash: run it again
        assert done.returncode == 1
        done = run(program, folder)
        assert "first step" not in done.stdout
        assert "hello, world" in done.stdout
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    return done.stdout


@pytest.mark.parametrize(("name", "text"), ON_SQLITE, ids=[name for name, _ in ON_SQLITE])
def test_a_program_on_a_page_runs_to_its_end(name: str, text: str, tmp_path: Path) -> None:
    runs_to_its_end(text, tmp_path)


SHOWN = [
    (f"{page.name}-{number}", program, output)
    for page in PAGES
    for number, (program, output) in enumerate(shown(page))
]


@pytest.mark.parametrize(("name", "text", "output"), SHOWN, ids=[name for name, *_ in SHOWN])
def test_what_a_page_shows_is_what_its_program_prints(
    name: str, text: str, output: str, tmp_path: Path
) -> None:
    assert runs_to_its_end(text, tmp_path).split() == output.split()


def test_the_programs_of_the_readme_may_be_started_again(tmp_path: Path) -> None:
    """As it says: the same result, and nothing is done twice."""
    for text in blocks(ROOT / "README.md", "python"):
        first = runs_to_its_end(text, tmp_path)
        assert runs_to_its_end(text, tmp_path) == first


@pytest.mark.postgres
@pytest.mark.skipif(not MAJORS, reason=NO_POSTGRES)
@pytest.mark.parametrize(("name", "text"), ON_POSTGRES, ids=[name for name, _ in ON_POSTGRES])
def test_a_program_on_a_page_runs_on_postgres(name: str, text: str, tmp_path: Path) -> None:
    with migrated_database() as dsn:
        changed = POSTGRES.sub(f'"{dsn}"', SQLITE.sub(f'"{dsn}"', text))
        assert dsn in changed
        runs_to_its_end(changed, tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_readme_names_two_commands_that_the_makefile_has() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("demo", "test"):
        assert f"make {target}" in readme
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
