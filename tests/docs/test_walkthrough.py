"""docs/walkthrough.md is what its template says, and its template runs."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from local_cloud.samples import draw_samples
from tests.docs.pages import ROOT
from walkthrough.literate import skeleton, weave

TEMPLATE = ROOT / "walkthrough" / "template.md"
PAGE = ROOT / "docs" / "walkthrough.md"
TEXT = """\
# Title

```python run
n = 2
print(n)
```

```python hidden
print('*three*')
```

<!-- source: walkthrough.literate:pieces -->
"""


def test_the_page_is_of_this_template_and_these_functions() -> None:
    """A word, a block or a function that is shown and was changed asks for make walkthrough."""
    assert skeleton(TEMPLATE).fullmatch(PAGE.read_text()), "make walkthrough"


def test_every_block_runs_on_drawn_images(tmp_path: Path, cache_folder: Path) -> None:
    """Without real images the same page comes of drawn ones, in a folder of its own."""
    draw_samples(tmp_path / "images")
    paths = os.pathsep.join(str(ROOT / part) for part in ("plugins", "spark_jobs", "."))
    words = ["--images", tmp_path / "images", "--weights", "seeded", "--output", tmp_path / "page"]

    done = subprocess.run(
        [sys.executable, "-m", "walkthrough", *map(str, words)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": paths, "FRUITS_CACHE_FOLDER": str(cache_folder)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    page = (tmp_path / "page" / "walkthrough.md").read_text()
    assert skeleton(TEMPLATE).fullmatch(page)
    assert "Here: 25 images of 5 labels" in page
    shown = {piece.name for piece in (tmp_path / "page" / "walkthrough").iterdir()}
    assert shown == {path.name for path in (ROOT / "docs" / "walkthrough").iterdir()}


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """Return a template with a piece of every kind."""
    file = tmp_path / "template.md"
    file.write_text(TEXT)
    return file


def test_code_is_shown_with_what_it_prints(template: Path) -> None:
    """Blocks share their names; hidden ones leave Markdown; functions are shown as they are."""
    page = weave(template, {})

    assert page.startswith(
        "# Title\n\n```python\nn = 2\nprint(n)\n```\n\n```text\n2\n```\n\n*three*\n"
    )
    assert "[`walkthrough/literate.py`](../walkthrough/literate.py)" in page
    assert "def pieces(template: str)" in page


def test_the_skeleton_tells_changes_from_measured_values(template: Path) -> None:
    """Other output is the same page; another word, block or function is not."""
    pattern, page = skeleton(template), weave(template, {})

    assert pattern.fullmatch(page.replace("```text\n2\n", "```text\n17.3 s\n"))
    for old, new in (("Title", "Titel"), ("print(n)", "print(n + 1)"), ("def pieces", "def parts")):
        assert old in page
        assert not pattern.fullmatch(page.replace(old, new))


def test_an_error_names_the_templates_line(template: Path) -> None:
    """Whoever breaks a block finds it."""
    broken = template.with_name("broken.md")
    broken.write_text(template.read_text().replace("print(n)", "print(missing)"))

    with pytest.raises(NameError) as raised:
        weave(broken, {})

    assert "broken.md, line 3" in "".join(traceback.format_exception(raised.value))
