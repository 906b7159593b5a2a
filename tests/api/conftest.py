"""The small trained run of the whole suite as a model: 120 users u000..., 60 items 100..159, no user features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sparcode import SparCode

if TYPE_CHECKING:
    from tests.conftest import TinyRun


@pytest.fixture(scope="session")
def model(tiny_run: TinyRun) -> SparCode:
    """The run, opened once."""
    return SparCode.load(tiny_run.folder)
