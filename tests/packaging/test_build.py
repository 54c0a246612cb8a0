"""Building: the same bytes every time, and a clear text when it cannot be done."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import manifest
import pytest


@pytest.mark.slow
def test_built_twice_gives_equal_bytes(tree: Path, wheel, build_wheel):
    """Another folder, time zone and file times; nothing of them may show."""
    for path in tree.rglob("*.py"):
        path.touch()
    result = build_wheel(TZ="Asia/Tokyo", LC_ALL="C")
    assert result.returncode == 0, result.stdout
    again = tree / "dist" / wheel.name
    # Not compared by ==, whose report of a difference would be of 60 MB.
    same = again.read_bytes() == wheel.read_bytes()
    assert same


def test_wrong_stock_wheel_is_refused(tree, build_wheel, tmp_path):
    forged = tmp_path / "ray-2.60.0-forged.whl"
    forged.write_bytes(b"not a wheel")
    result = build_wheel(RAY_STOCK_WHEEL=str(forged))
    assert result.returncode != 0
    assert f"{forged} is not the stock wheel that is locked" in result.stdout
    assert "Traceback" not in result.stdout
    assert not list(tree.glob("dist/*.whl"))


def test_unlisted_file_is_refused(tree, build_wheel):
    (tree / "python/ray/util/client/stray.txt").write_text("a file that nobody listed")
    result = build_wheel()
    assert result.returncode != 0
    assert "not listed, but in the tree: ray/util/client/stray.txt" in result.stdout
    assert manifest.UPDATE in result.stdout
    assert "Traceback" not in result.stdout


def test_missing_file_is_refused(tree, build_wheel):
    (tree / "python/ray/util/client/protocol.py").unlink()
    result = build_wheel()
    assert result.returncode != 0
    assert "listed, but not in the tree: ray/util/client/protocol.py" in result.stdout


def test_other_stock_file_than_listed_is_refused(tree, build_wheel):
    file = tree / manifest.FILE
    raw = json.loads(file.read_text())
    path = "ray/util/client/worker.py"
    raw["replace"][path] = "0" * 64
    file.write_text(json.dumps(raw))
    (tree / "python" / path).touch()
    result = build_wheel()
    assert result.returncode != 0
    assert f"{path} should replace {'0' * 64}, but stock has " in result.stdout


def test_notice_that_lacks_a_file_is_refused(tree, build_wheel):
    notice = tree / "NOTICE"
    notice.write_text(notice.read_text().replace("  ray/util/client/protocol.py\n", ""))
    result = build_wheel()
    assert result.returncode != 0
    assert "NOTICE does not name the files" in result.stdout


def test_broken_protocol_is_refused(tree, build_wheel):
    (tree / "src/protocol/ray_client.proto").write_text("this is no protocol")
    result = build_wheel()
    assert result.returncode != 0
    assert "protoc refuses" in result.stdout


@pytest.mark.parametrize("isolation", [(), ("--no-build-isolation",)])
def test_editable_install_names_the_other_way(run_pip, isolation, tmp_path):
    result = run_pip("install", "--no-deps", *isolation, f"--target={tmp_path}/t", "-e", ".")
    assert result.returncode != 0
    assert "make dev" in result.stdout
    assert "Traceback" not in result.stdout


def test_manifest_update_repairs_the_manifest(tree, build_python, stock_wheel, monkeypatch):
    monkeypatch.setenv("RAY_STOCK_WHEEL", str(stock_wheel))
    (tree / "python/ray/util/client/extra.py").write_text('"""New."""\n')
    command = [build_python, "ci/manifest.py"]
    before = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    assert before.returncode != 0 and "ray/util/client/extra.py" in before.stderr
    subprocess.run([*command, "--update"], cwd=tree, check=True)
    assert "ray/util/client/extra.py" in manifest.read(tree).add
    assert "ray/util/client/extra.py" in (tree / "NOTICE").read_text()
    subprocess.run(command, cwd=tree, check=True)
