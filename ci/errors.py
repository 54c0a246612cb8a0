"""The one error of the build."""

from __future__ import annotations


class BuildError(Exception):
    """The build cannot go on. The text says what is wrong, and what to do about it."""
