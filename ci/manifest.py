"""The overlay manifest: each path of the wheel that is ours, and which stock file it replaces.

``python ci/manifest.py`` checks the committed manifest and NOTICE against the tree and the stock
wheel; with ``--update`` it writes both anew.
"""

from __future__ import annotations

import argparse
import json
import sysconfig
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import fetch
import layout
import stock
from errors import BuildError

FILE = "ci/overlay.json"
UPDATE = "python ci/manifest.py --update"

_NOTICE = """\
ray-reconnect, an unofficial modified build of Ray {version}
https://github.com/ray-project/ray

Ray is copyright the Ray Authors and licensed under the Apache License, Version 2.0 (see LICENSE).
This build is not made, endorsed or supported by the Ray project. Every file that is not named here
is the one of the official wheel of Ray {version}, unchanged.

Files that take the place of Ray's:
{replace}

Files that are added:
{add}
"""


class Manifest(NamedTuple):
    """Paths in the wheel: those that are new, and those that replace a stock file of a sha256."""

    add: frozenset[str]
    replace: Mapping[str, str]

    @property
    def paths(self) -> set[str]:
        """Every path that is ours."""
        return {*self.add, *self.replace}

    def for_this_python(self) -> Manifest:
        """The same with the extensions' real file names. Wheels name them so, the tree does not."""
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        return self._replace(
            add=frozenset(path.replace(layout.EXT_SUFFIX, suffix) for path in self.add)
        )


def read(root: Path) -> Manifest:
    """The committed manifest of the tree at ``root``."""
    raw = json.loads((root / FILE).read_text(encoding="utf-8"))
    return Manifest(frozenset(raw["add"]), raw["replace"])


def make(ours: Collection[str], stock_hashes: Mapping[str, str]) -> Manifest:
    """The manifest that fits our paths and the stock wheel (path to sha256 in hex)."""
    replace = {path: stock_hashes[path] for path in sorted(ours) if path in stock_hashes}
    return Manifest(frozenset(ours) - frozenset(replace), replace)


def notice(manifest: Manifest, version: str) -> str:
    """The text of NOTICE."""
    listed = {
        name: "\n".join(f"  {path.replace(layout.EXT_SUFFIX, '.*.so')}" for path in sorted(paths))
        for name, paths in (("replace", manifest.replace), ("add", manifest.add))
    }
    return _NOTICE.format(version=version, **listed)


def check_paths(manifest: Manifest, ours: Collection[str]) -> None:
    """Raises BuildError unless ``ours`` are exactly the manifest's paths."""
    unlisted = sorted(set(ours) - manifest.paths)
    missing = sorted(manifest.paths - set(ours))
    if unlisted or missing:
        lines = [f"  not listed, but in the tree: {path}" for path in unlisted]
        lines += [f"  listed, but not in the tree: {path}" for path in missing]
        raise BuildError(
            f"{FILE} and the tree differ:\n" + "\n".join(lines) + "\n"
            f"If the tree is right, run `{UPDATE}` and commit the result."
        )


def check_stock(manifest: Manifest, stock_hashes: Mapping[str, str]) -> None:
    """Raises BuildError unless what is replaced is what the manifest says, and the rest is new."""
    wrong = []
    for path, expected in sorted(manifest.replace.items()):
        found = stock_hashes.get(path)
        if found is None:
            wrong.append(f"  {path} should replace a stock file, but stock has none")
        elif found != expected:
            wrong.append(f"  {path} should replace {expected}, but stock has {found}")
    for path in sorted(manifest.add & set(stock_hashes)):
        wrong.append(f"  {path} should be new, but stock has one")
    if wrong:
        raise BuildError(
            f"{FILE} and the stock wheel differ:\n" + "\n".join(wrong) + "\n"
            f"See what changed in those stock files, carry over what matters, then run `{UPDATE}`."
        )


def check_notice(root: Path, manifest: Manifest, version: str) -> None:
    """Raises BuildError unless NOTICE names the manifest's paths."""
    if (root / "NOTICE").read_text(encoding="utf-8") != notice(manifest, version):
        raise BuildError(f"NOTICE does not name the files of {FILE}. Run `{UPDATE}`.")


def _write(root: Path, manifest: Manifest, version: str) -> None:
    raw = {"add": sorted(manifest.add), "replace": manifest.replace}
    (root / FILE).write_text(json.dumps(raw, indent=2) + "\n", encoding="utf-8")
    (root / "NOTICE").write_text(notice(manifest, version), encoding="utf-8")


def run(root: Path, update: bool) -> None:
    """Checks the tree's manifest and NOTICE, or writes them. Raises BuildError."""
    locked, path = fetch.for_this_python(root)
    hashes = stock.hashes(path)
    ours = layout.overlay(root)
    if update:
        _write(root, make(ours, hashes), locked.version)
    manifest = read(root)
    check_paths(manifest, ours)
    check_stock(manifest, hashes)
    check_notice(root, manifest, locked.version)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--update", action="store_true", help="write the manifest and NOTICE")
    try:
        run(Path(__file__).resolve().parent.parent, parser.parse_args().update)
    except BuildError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
