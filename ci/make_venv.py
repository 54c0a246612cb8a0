"""``python ci/make_venv.py FOLDER`` makes a virtual environment, anew if it has made that one.

Some systems ship Python without what ``python -m venv`` needs (Debian: python3-venv); pip is then
asked for virtualenv, which brings its own.
"""

import os
import shutil
import subprocess
import sys

_MADE = ".made-by-make"


def _empty(folder: str) -> None:
    """Empties ``folder`` if this script has made it. Marked first: making it may break off."""
    made = os.path.join(folder, _MADE)
    if os.path.exists(folder):
        if not os.path.exists(made):
            raise SystemExit(f"error: {folder} was not made here; remove it, or name another.")
        shutil.rmtree(folder)
    os.makedirs(folder)
    open(made, "w", encoding="utf-8").close()


def main() -> None:
    folder = sys.argv[1]
    _empty(folder)
    if subprocess.run([sys.executable, "-m", "venv", folder], check=False).returncode:
        tool = os.path.join("build", "virtualenv")
        print(f"python -m venv does not work here; putting virtualenv into {tool}", flush=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--upgrade"]
        subprocess.run([*pip, "--target", tool, "virtualenv"], check=True)
        environment = {**os.environ, "PYTHONPATH": tool}
        command = [sys.executable, "-m", "virtualenv", "--quiet", folder]
        subprocess.run(command, check=True, env=environment)


if __name__ == "__main__":
    main()
