"""Installs Debian packages that tests need, where that is possible: as root, on Debian.

``python ci/debian.py PACKAGE…`` does nothing where it can't, and says so: the tests that need what
is missing are skipped then, with the reason.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys


def missing(packages: list[str]) -> list[str]:
    """Those of the packages that are not installed."""
    query = ["dpkg-query", "--show", "--showformat=${Status}"]
    done = {name: subprocess.run([*query, name], capture_output=True) for name in packages}
    return [name for name in packages if b"install ok installed" not in done[name].stdout]


def install(packages: list[str]) -> None:
    """Installs packages. Raises CalledProcessError, with apt's own words on stderr."""
    # In runlevel 1 no service is started that a package brings along.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        subprocess.run(["apt-get", "--quiet=2", *command], env=environment, check=True)


def main() -> None:
    if shutil.which("dpkg-query") is None or shutil.which("apt-get") is None:
        print(f"no Debian: {' '.join(sys.argv[1:])} not installed")
        return
    wanted = missing(sys.argv[1:])
    if not wanted:
        return
    if os.geteuid() != 0:
        print(f"not root: {' '.join(wanted)} not installed")
        return
    try:
        install(wanted)
    except subprocess.CalledProcessError as error:
        print(f"{' '.join(wanted)} not installed: {error}")


if __name__ == "__main__":
    main()
