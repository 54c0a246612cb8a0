"""Every module here is checked for what it leaves behind."""

from pathlib import Path

import pytest

from tests.support.held import Held
from tests.support.session import Session


@pytest.fixture(autouse=True)
def _no_leaks(no_leaks: None) -> None:
    """Applies the leak check to all modules of this folder."""


@pytest.fixture
def held(session: Session, tmp_path: Path) -> Held:
    """A session on the shared head with functions and a class whose runs are counted."""
    return Held(session, tmp_path)
