"""Runs the cache's tests over its extension built with gcc's sanitizers.

``python ci/sanitize.py PYTHON KIND [pytest's arguments]``, where PYTHON has what the tests need and
is of this interpreter's version, and KIND is ``address`` (memory and undefined behaviour) or
``thread`` (data races). The cache's package is laid out by itself, without the rest of Ray, whose
own extensions are not built for this.

Not looked for are leaks at the exit, since Python keeps a good deal for its lifetime; the tests of
``test_ordered_cache_memory.py`` look for those of the cache.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

import layout
from errors import BuildError

ROOT = Path(__file__).resolve().parent.parent
WORK = Path("build/sanitize")
TESTS = "tests/unit/cache"
CACHE = f"{layout.PACKAGE}/cache"


class Kind(NamedTuple):
    """One way to build.

    Attributes:
        sanitizers: of gcc's ``-fsanitize=``.
        library: the run-time library, which has to be loaded before all others.
        environment: how it is to behave.
        fault: what a probe does wrong, in C.
        finding: what the probe's report says.
    """

    sanitizers: str
    library: str
    environment: dict[str, str]
    fault: str
    finding: str


KINDS = {
    "address": Kind(
        "address,undefined",
        "libasan.so",
        {
            "ASAN_OPTIONS": "detect_leaks=0:strict_string_checks=1:detect_stack_use_after_return=1",
            "UBSAN_OPTIONS": "print_stacktrace=1",
        },
        "volatile char *p = malloc(8); free((void *)p); p[0] = 1;",
        "heap-use-after-free",
    ),
    "thread": Kind(
        "thread",
        "libtsan.so",
        {"TSAN_OPTIONS": "halt_on_error=1"},
        "pthread_t t; pthread_create(&t, 0, count, 0); count(0); pthread_join(t, 0);",
        "data race",
    ),
}

_PROBE = """
#include <pthread.h>
#include <stdlib.h>
static int counter;
static void *count(void *unused) { for (int i = 0; i < 1000; i++) counter++; return unused; }
void probe(void) { (void)count; %s }
"""


def _run(*command: str) -> None:
    if subprocess.run(command, check=False).returncode:
        raise BuildError(f"{command[0]} failed (its output is above)")


def _compile(kind: Kind, source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    flags = ["-shared", "-fPIC", "-g", "-O1", "-fno-omit-frame-pointer", "-Wno-unused"]
    sanitize = [f"-fsanitize={kind.sanitizers}", "-fno-sanitize-recover=all"]
    headers = f"-I{sysconfig.get_path('include')}"
    _run("gcc", *flags, *sanitize, headers, str(source), "-o", str(target))


def _lay_out(kind: Kind, folder: Path) -> None:
    """Makes a package ``ray`` in ``folder`` that has the cache and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    package = folder / CACHE
    shutil.copytree(ROOT / "python" / CACHE, package, ignore=shutil.ignore_patterns("__*__"))
    shutil.copy(ROOT / "python" / CACHE / "__init__.py", package)
    for parent in list(package.parents)[: len(Path(CACHE).parts) - 1]:
        (parent / "__init__.py").touch()
    for path, source in layout.extensions(ROOT).items():
        generated = folder / f"{source.stem}.c"
        module = path.removesuffix(layout.EXT_SUFFIX)
        named = ["--module-name", module.replace("/", "."), "-o", str(generated)]
        _run(sys.executable, "-m", "cython", "-3", str(source), *named)
        _compile(kind, generated, folder / (module + sysconfig.get_config_var("EXT_SUFFIX")))


def _environment(kind: Kind, folder: Path) -> dict[str, str]:
    library = subprocess.run(
        ["gcc", f"-print-file-name={kind.library}"], check=True, capture_output=True, text=True
    ).stdout.strip()
    if not os.path.isabs(library):
        raise BuildError(f"gcc has no {kind.library}")
    return {
        **os.environ,
        **kind.environment,
        "LD_PRELOAD": os.path.realpath(library),
        # Python's own allocator would hide what is too far and what is freed.
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": str(folder),
        "REQUIRE_CYTHON": "1",
    }


def _probe(kind: Kind, python: str, folder: Path, environment: dict[str, str]) -> None:
    """Raises BuildError unless a fault is found: else that nothing is found would mean nothing."""
    source, library = folder / "probe.c", folder / "probe.so"
    source.write_text(_PROBE % kind.fault)
    _compile(kind, source, library)
    code = f"import ctypes; ctypes.CDLL({str(library)!r}).probe()"
    done = subprocess.run(
        [python, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    if not done.returncode or kind.finding not in done.stderr:
        raise BuildError(f"the sanitizer does not see a {kind.finding}:\n{done.stderr}")
    print(f"The sanitizer works: it sees a {kind.finding}.", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python")
    parser.add_argument("kind", choices=KINDS)
    arguments, others = parser.parse_known_args()
    kind, folder = KINDS[arguments.kind], ROOT / WORK / arguments.kind
    python = os.path.abspath(arguments.python)
    os.chdir(ROOT)
    try:
        _lay_out(kind, folder)
        environment = _environment(kind, folder)
        _probe(kind, python, folder, environment)
    except BuildError as error:
        raise SystemExit(f"error: {error}") from None
    # The fixtures of the other tests need the rest of Ray.
    pytest = [python, "-m", "pytest", TESTS, f"--confcutdir={TESTS}", "--capture=sys"]
    sys.exit(subprocess.run([*pytest, *others], env=environment, check=False).returncode)


if __name__ == "__main__":
    main()
