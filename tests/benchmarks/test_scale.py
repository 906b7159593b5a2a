"""The page of the scale benchmark: what is measured is replaced, what is written by hand stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def finished(tmp_path: Path) -> tuple[Path, Path]:
    out, root = tmp_path / "out", tmp_path / "root"
    for folder in (out, root / "docs" / "images", root / "benchmarks" / "results"):
        folder.mkdir(parents=True)
    (out / "scale.json").write_text("{}")
    (out / "scale.md").write_text("# Measured\n")
    (out / "scale-growth.png").write_bytes(b"picture")
    return out, root


def test_a_page_keeps_its_notes(finished: tuple[Path, Path], script: Callable[[str], ModuleType]) -> None:
    out, root = finished
    scale = script("scale")
    scale.publish(out, root)
    page = root / "docs" / "scale.md"
    first, last = scale.NOTES
    page.write_text(page.read_text().replace(first, f"{first}\nTried: this."))
    (out / "scale.md").write_text("# Measured again\n")
    written = scale.publish(out, root)
    text = page.read_text()
    assert text.startswith("# Measured again")
    assert f"{first}\nTried: this." in text
    assert last in text
    assert "![scale-growth](images/scale-growth.png)" in text
    assert all(path.exists() for path in written)
