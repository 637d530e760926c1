"""The documents are true where a machine can tell: links, commands, settings, files."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from fruits.settings import Settings
from tests.docs.pages import ROOT, Page, all_pages

PAGES = all_pages()
# The changelog tells of what there was.
PRESENT = [page for page in PAGES if page.name != "CHANGELOG.md"]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z][a-z0-9-]*):(?!=)", MAKEFILE, re.MULTILINE))
# Variables of that name that are no settings, by what reads them.
OTHER_VARIABLES = {
    "FRUITS_BROWSER": "tests/browser/chromium.py",
    "FRUITS_CLOUD": "docker-compose.yaml",
}
FOLDERS = (
    *("benchmarks", "bootstrap", "dags", "docker", "docs", "local_cloud", "plugins"),
    *("spark_jobs", "tests", "walkthrough"),
)
PATH = re.compile(rf"(?<![\w/.-])(?:{'|'.join(FOLDERS)})/[\w./*-]*[\w*/]")
# Made by `make aws-deploy`, and places in the DAGs folder of an Airflow that somebody has.
ELSEWHERE = ("docker/aws.env", "dags/.airflowignore", "dags/fruits/")

of_each = pytest.mark.parametrize("page", PRESENT, ids=lambda page: page.name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Page) -> None:
    """Links and pictures are files of the repository; their anchors are headings there."""
    broken = []
    for address in page.addresses:
        path, fragment = page.target(address)
        if not path.exists() or not path.is_relative_to(ROOT):
            broken.append(address)
        elif fragment and fragment not in Page(path).anchors:
            broken.append(f"{address}: there are {', '.join(sorted(Page(path).anchors))}")

    assert not broken


@of_each
def test_every_make_target_exists(page: Page) -> None:
    """What is shown as `make TARGET` can be typed."""
    named = {t for code in page.code for t in re.findall(r"(?<![\w/-])make ([a-z][\w-]*)", code)}

    assert named <= TARGETS


@of_each
def test_every_variable_is_read_by_something(page: Page) -> None:
    """A FRUITS_ variable that a text names is a setting, or known to the file that reads it."""
    named = set(re.findall(r"(?<!\w)FRUITS_[A-Z][A-Z_]*[A-Z]", page.path.read_text()))
    settings = {f"FRUITS_{name.upper()}" for name in Settings.model_fields}

    assert named <= settings | OTHER_VARIABLES.keys()
    for name in named - settings:
        assert name in (ROOT / OTHER_VARIABLES[name]).read_text()


@of_each
def test_every_path_is_in_the_repository(page: Page) -> None:
    """A file that a text names in code is there; a pattern matches something."""
    named = {path for code in page.code for path in PATH.findall(code)}
    here = {path for path in named if not path.startswith(ELSEWHERE)}

    assert not {path for path in here if not list(ROOT.glob(path.rstrip("/")))}


@of_each
def test_every_file_name_is_one_of_ours(page: Page) -> None:
    """A file that is named without its folder, as the map in CONTRIBUTING does, is somewhere."""
    name = re.compile(r"(?<![\w/.:-])[a-z]\w*\.(?:py|sh|yaml|jinja|ipynb)(?![\w.])")
    named = {file for code in page.code for file in name.findall(code)}
    ours = {path.name for folder in FOLDERS for path in (ROOT / folder).rglob("*.*")}

    assert named <= ours | {path.name for path in ROOT.iterdir()}


@of_each
def test_every_named_test_exists(page: Page) -> None:
    """A text that proves something by a test names one that is there."""
    named = [
        (file, test)
        for code in page.code
        for file, test in re.findall(r"(tests/[\w/]+\.py)::(\w+)", code)
    ]

    assert not [test for file, test in named if f"def {test}(" not in (ROOT / file).read_text()]


@of_each
def test_every_module_can_be_run(page: Page) -> None:
    """What is shown as `python -m MODULE` is a module."""
    named = {m for code in page.code for m in re.findall(r"python -m ([\w.]+)", code)}

    assert not {module for module in named if importlib.util.find_spec(module) is None}


def test_every_page_is_found_from_the_readme() -> None:
    """A document that no link leads to is read by nobody."""
    found, left = set(), [ROOT / "README.md"]
    while left:
        path = left.pop()
        if path not in found and path.suffix == ".md" and path.exists():
            found.add(path)
            page = Page(path)
            left += [page.target(address)[0] for address in page.addresses]

    assert {page.path for page in PAGES} <= found


def test_every_picture_is_shown() -> None:
    """A picture in docs/ that no document shows is out of date before anybody notices."""
    shown = {page.target(address)[0] for page in PAGES for address in page.addresses}
    kept = {path for path in Path(ROOT / "docs").rglob("*") if path.suffix in (".png", ".svg")}

    assert kept <= shown
