"""What tells this distribution apart from stock Ray. The fork's version is kept here alone."""

from __future__ import annotations

LABEL = "reconnect.1"

SUMMARY = (
    "Unofficial modified build of Ray: Ray Client sessions survive the death of their server. "
    "Not made or supported by the Ray project."
)

# The wheel exists for ray://, which stock offers as the extra "client". The floor is the oldest
# grpcio that has wheels for every locked Python.
REQUIRES = ("grpcio>=1.66.2",)


def version(stock_version: str) -> str:
    """The fork's version, such as ``2.60.0+reconnect.1``."""
    return f"{stock_version}+{LABEL}"
