"""The lock, and getting the wheel that it names."""

from __future__ import annotations

import re

import fetch
import lock
import pytest
from errors import BuildError

from .conftest import ROOT


def test_all_supported_pythons_are_locked():
    wheels = lock.read(ROOT)
    assert [w.python for w in wheels] == ["cp310", "cp311", "cp312", "cp313"]
    for wheel in wheels:
        assert wheel.platform == "manylinux2014_x86_64"
        assert wheel.file == f"ray-2.60.0-{wheel.python}-{wheel.python}-{wheel.platform}.whl"
        assert re.fullmatch("[0-9a-f]{64}", wheel.sha256)
    assert len({w.sha256 for w in wheels}) == len(wheels)


def test_each_python_gets_its_own_wheel():
    wheels = lock.read(ROOT)
    for wheel in wheels:
        assert lock.pick(wheels, wheel.python, wheel.platform) is wheel


@pytest.mark.parametrize(
    ("python", "platform"),
    [
        ("cp39", "manylinux2014_x86_64"),
        ("cp313t", "manylinux2014_x86_64"),
        ("pypy310", "manylinux2014_x86_64"),
        ("cp311", "manylinux2014_aarch64"),
        ("cp311", "linux_without_glibc_x86_64"),
        ("cp311", "macosx_14_0_arm64"),
    ],
)
def test_unknown_platform_says_what_to_do(python, platform):
    with pytest.raises(BuildError) as caught:
        lock.pick(lock.read(ROOT), python, platform)
    text = str(caught.value)
    assert f"no stock Ray wheel is locked for {python} on {platform}" in text
    assert "cp310 on manylinux2014_x86_64" in text
    assert "make PYTHON=" in text and lock.FILE in text


def test_musl_is_told_from_glibc(monkeypatch):
    monkeypatch.setattr(lock.sysconfig, "get_platform", lambda: "linux-x86_64")
    monkeypatch.setattr(lock.platform, "libc_ver", lambda: ("", ""))
    assert lock.this_platform() == "linux_without_glibc_x86_64"
    monkeypatch.setattr(lock.platform, "libc_ver", lambda: ("glibc", "2.36"))
    assert lock.this_platform() == "manylinux2014_x86_64"


@pytest.fixture
def entry(tmp_path):
    """A locked file of seven bytes, and a good copy of it."""
    good = tmp_path / "good.whl"
    good.write_bytes(b"content")
    python, digest = lock.this_python(), fetch.sha256(good)
    return lock.StockWheel("2.60.0", python, lock.this_platform(), "ray-x.whl", digest), good


def test_given_wheel_is_taken(entry, tmp_path, monkeypatch):
    wheel, good = entry
    monkeypatch.setenv(fetch.OFFLINE, str(good))
    assert fetch.fetch(tmp_path, wheel) == good


def test_given_wheel_that_is_missing_is_named(entry, tmp_path, monkeypatch):
    monkeypatch.setenv(fetch.OFFLINE, str(tmp_path / "nowhere.whl"))
    with pytest.raises(BuildError, match=r"nowhere\.whl, which is no file"):
        fetch.fetch(tmp_path, entry[0])


def _index_that_serves(monkeypatch, content: bytes) -> list[str]:
    asked = []

    def download(wheel, folder):
        asked.append(wheel.file)
        (folder / wheel.file).write_bytes(content)

    monkeypatch.delenv(fetch.OFFLINE, raising=False)
    monkeypatch.setattr(fetch, "_download", download)
    return asked


def test_download_is_kept(entry, tmp_path, monkeypatch):
    asked = _index_that_serves(monkeypatch, b"content")
    kept = fetch.fetch(tmp_path, entry[0])
    assert kept.read_bytes() == b"content"
    assert fetch.fetch(tmp_path, entry[0]) == kept
    assert asked == ["ray-x.whl"]


def test_download_with_another_hash_is_refused_and_not_kept(entry, tmp_path, monkeypatch):
    _index_that_serves(monkeypatch, b"forged")
    with pytest.raises(BuildError, match="not the stock wheel that is locked"):
        fetch.fetch(tmp_path, entry[0])
    assert list((tmp_path / fetch.FOLDER).iterdir()) == []


def test_kept_wheel_that_went_bad_is_fetched_again(entry, tmp_path, monkeypatch):
    asked = _index_that_serves(monkeypatch, b"content")
    bad = tmp_path / fetch.FOLDER / "ray-x.whl"
    bad.parent.mkdir(parents=True)
    bad.write_bytes(b"cut off")
    assert fetch.fetch(tmp_path, entry[0]).read_bytes() == b"content"
    assert asked == ["ray-x.whl"]
