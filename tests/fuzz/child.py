"""Fuzzes a function: ``python -m tests.fuzz.child MODULE:FUNCTION [options] [folder]``.

The options are libFuzzer's. A file in place of the folder is run as an input, which is how a
finding is looked at again.
"""

from __future__ import annotations

import importlib
import logging
import sys

import atheris

# Everything is imported in here, so that libFuzzer sees which of our branches an input takes.
with atheris.instrument_imports(include=["ray.util.client", "pickletools", "tests.fuzz"]):
    _module, _, _function = sys.argv[1].partition(":")
    _target = getattr(importlib.import_module(_module), _function)


def main() -> None:
    logging.disable()  # Refusals are logged, one an input.
    atheris.Setup([sys.argv[0], *sys.argv[2:]], _target)
    atheris.Fuzz()


main()
