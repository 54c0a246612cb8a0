"""The first stage of the build: our package and its extensions, without the rest of Ray.

Run by ci/stage.py; the second stage (ci/merge.py) lays the result over the stock wheel.
"""

import shutil
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "ci"))

import fork  # noqa: E402
import layout  # noqa: E402
import lock  # noqa: E402
import native  # noqa: E402


class BuildOverlay(build_py):
    """Copies what layout names instead of searching packages, and compiles the protocol."""

    def run(self) -> None:
        target = Path(self.build_lib)
        for path, source in layout.copied(ROOT).items():
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target / path)
        for path, proto in layout.descriptors(ROOT).items():
            native.compile_descriptor(proto, target / path)


setup(
    version=fork.version(lock.read(ROOT)[0].version),
    packages=[layout.PACKAGE.replace("/", ".")],
    package_dir={"": "python"},
    ext_modules=native.extensions(ROOT),
    cmdclass={"build_py": BuildOverlay},
    options={
        "build": {"build_base": native.WORK},
        "egg_info": {"egg_base": native.WORK},
    },
)
