"""What is inside the wheel."""

from __future__ import annotations

import base64
import csv
import email
import hashlib
import io
import json
import re
import sysconfig
import zipfile
from pathlib import Path

import fork
import layout
import lock
import manifest
import pytest
import stock

from .conftest import ROOT

INFO = "ray-2.60.0+reconnect.1.dist-info"
STOCK_INFO = "ray-2.60.0.dist-info"


@pytest.fixture
def archive(wheel: Path):
    with zipfile.ZipFile(wheel) as opened:
        yield opened


@pytest.fixture(scope="session")
def listed() -> manifest.Manifest:
    return manifest.read(ROOT).for_this_python()


def test_record_lists_every_member_with_its_hash_and_size(archive):
    rows = list(csv.reader(io.StringIO(archive.read(f"{INFO}/RECORD").decode())))
    assert sorted(path for path, _, _ in rows) == sorted(archive.namelist())
    for path, digest, size in rows:
        if path == f"{INFO}/RECORD":
            assert (digest, size) == ("", "")
            continue
        content = archive.read(path)
        expected = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        assert (digest, size) == (f"sha256={expected}", str(len(content))), path


def test_no_member_occurs_twice(archive):
    assert len(archive.namelist()) == len(set(archive.namelist()))


def test_only_the_manifests_paths_differ_from_stock(wheel, stock_wheel, listed):
    def outside_dist_info(path: Path, info: str) -> dict[str, str]:
        return {n: h for n, h in stock.hashes(path).items() if not n.startswith(info)}

    ours, theirs = outside_dist_info(wheel, INFO), outside_dist_info(stock_wheel, STOCK_INFO)
    assert theirs.keys() <= ours.keys()
    assert ours.keys() - theirs.keys() == listed.add
    differing = {path for path in theirs if ours[path] != theirs[path]}
    assert differing <= listed.replace.keys()
    assert listed.replace == {path: theirs[path] for path in listed.replace}


def test_files_of_ours_are_those_of_the_tree(archive):
    for path, source in layout.copied(ROOT).items():
        assert archive.read(path) == source.read_bytes(), path


def test_dist_info_keeps_what_stock_has(archive, stock_wheel):
    with zipfile.ZipFile(stock_wheel) as theirs:
        names = {n.removeprefix(STOCK_INFO) for n in theirs.namelist() if n.startswith(STOCK_INFO)}
        ours = {n.removeprefix(INFO) for n in archive.namelist() if n.startswith(INFO)}
        assert ours - names == {"/licenses/LICENSE", "/licenses/NOTICE"}
        assert names <= ours
        for name in names - {"/RECORD", "/METADATA", "/WHEEL"}:
            assert archive.read(INFO + name) == theirs.read(STOCK_INFO + name)


def test_modes_are_kept(members, stock_wheel, listed):
    with zipfile.ZipFile(stock_wheel) as theirs:
        for member in theirs.infolist():
            name = member.filename.replace(STOCK_INFO, INFO)
            assert members[name].external_attr == member.external_attr, name
    for path in listed.add:
        executable = members[path].external_attr >> 16 & 0o111 != 0
        assert executable == path.endswith(".so"), path


def test_version_and_tags_agree_everywhere(archive, wheel):
    name, version, *tags = wheel.name.removesuffix(".whl").split("-")
    assert name == "ray"
    assert version == "2.60.0+reconnect.1" == fork.version("2.60.0")
    assert email.message_from_bytes(archive.read(f"{INFO}/METADATA"))["Version"] == version
    about = email.message_from_bytes(archive.read(f"{INFO}/WHEEL"))
    assert about.get_all("Tag") == ["-".join(tags)]
    assert tags[:2] == [lock.this_python()] * 2
    assert tags[2].startswith("manylinux")
    assert about["Root-Is-Purelib"] == "false"


def test_metadata_is_stocks_but_for_what_is_ours(archive, stock_wheel):
    with zipfile.ZipFile(stock_wheel) as theirs:
        before = theirs.read(f"{STOCK_INFO}/METADATA").decode().splitlines()
    after = archive.read(f"{INFO}/METADATA").decode().splitlines()
    gone = [line for line in before if line not in after]
    come = [line for line in after if line not in before]
    assert [line.split(":")[0] for line in gone] == ["Version", "Summary"]
    assert come == [
        "Version: 2.60.0+reconnect.1",
        f"Summary: {fork.SUMMARY}",
        "License-File: LICENSE",
        "License-File: NOTICE",
        *(f"Requires-Dist: {requirement}" for requirement in fork.REQUIRES),
    ]
    assert "unofficial modified build" in fork.SUMMARY.lower()


def test_grpcio_is_a_plain_dependency(archive):
    parsed = email.message_from_bytes(archive.read(f"{INFO}/METADATA"))
    assert [r for r in parsed.get_all("Requires-Dist") if re.match(r"grpcio\b[^;]*$", r)] == list(
        fork.REQUIRES
    )


def test_licences_are_inside(archive):
    for name in ("LICENSE", "NOTICE"):
        assert archive.read(f"{INFO}/licenses/{name}") == (ROOT / name).read_bytes()
    text = (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text and "END OF TERMS AND CONDITIONS" in text


def test_notice_names_every_changed_file():
    raw = json.loads((ROOT / manifest.FILE).read_text())
    notice = (ROOT / "NOTICE").read_text().splitlines()
    for path in [*raw["replace"], *raw["add"]]:
        assert f"  {path.replace(layout.EXT_SUFFIX, '.*.so')}" in notice


def test_extensions_show_nothing_of_the_machine(archive, listed):
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    extensions = [path for path in listed.add if path.endswith(suffix)]
    assert extensions
    for path in extensions:
        assert re.findall(rb"\0(/[ -~]+)", archive.read(path)) == []
