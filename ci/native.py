"""Compiles what is not Python: the Cython extensions and the protocol's descriptor set."""

from __future__ import annotations

import os
import shlex
import shutil
import sysconfig
from pathlib import Path
from typing import Any

import layout
from errors import BuildError

# Relative to the root of the tree, as are all paths that a compiler sees: where the tree lies must
# not show in what is built.
WORK = "build/stage1"


def _compiler() -> str:
    return os.environ.get("CC") or sysconfig.get_config_var("CC") or "gcc"


def _check_compiler() -> None:
    compiler = shlex.split(_compiler())
    if shutil.which(compiler[0]) is None:
        raise BuildError(
            f"there is no C compiler ({compiler[0]}).\n"
            "Install one (Debian, Ubuntu: apt install gcc), or name yours with CC=."
        )
    headers = sysconfig.get_path("include")
    if not Path(headers, "Python.h").is_file():
        raise BuildError(
            f"Python's C headers are not in {headers}.\n"
            "Install them (Debian, Ubuntu: apt install python3-dev)."
        )


def extensions(root: Path) -> list[Any]:
    """The setuptools extensions of the tree at ``root``, which must be the working directory.

    Raises:
        BuildError: there are some, but no C compiler or no headers of Python.
    """
    from Cython.Build import cythonize
    from setuptools import Extension

    sources = layout.extensions(root)
    if not sources:
        return []
    _check_compiler()
    # How this Python itself was linked may name folders of this machine as run paths.
    os.environ.setdefault("LDSHARED", f"{_compiler()} -shared")
    modules = [
        Extension(
            path.removesuffix(layout.EXT_SUFFIX).replace("/", "."),
            [source.relative_to(root).as_posix()],
            extra_compile_args=["-O3", "-g0", f"-ffile-prefix-map={root}=."],
            extra_link_args=["-Wl,--strip-all", "-Wl,--build-id=none"],
        )
        for path, source in sources.items()
    ]
    return cythonize(modules, build_dir=f"{WORK}/cython", language_level=3)


def compile_descriptor(proto: Path, target: Path) -> None:
    """Writes the FileDescriptorSet of ``proto`` to ``target``. Raises BuildError, as protoc fails.

    What is wrong with the file, protoc says on stderr.
    """
    from grpc_tools import protoc

    target.parent.mkdir(parents=True, exist_ok=True)
    options = [f"-I{proto.parent}", f"--descriptor_set_out={target}", str(proto)]
    if protoc.main(["protoc", *options]):
        raise BuildError(f"protoc refuses {proto} (its output is above).")
