"""Every module here is checked for what it leaves behind."""

import pytest


@pytest.fixture(autouse=True)
def _no_leaks(no_leaks: None) -> None:
    """Applies the leak check to all modules of this folder."""
