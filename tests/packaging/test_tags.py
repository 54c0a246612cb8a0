"""The platform tag promises no older glibc than the extensions need."""

from __future__ import annotations

import zipfile

import pytest
import tags


def _needs(*versions: str) -> bytes:
    return b"\0".join([b"\x7fELF", b"puts", *(f"GLIBC_{v}".encode() for v in versions), b""])


@pytest.mark.parametrize(
    ("versions", "needed"),
    [((), (0, 0)), (("2.2.5",), (2, 2)), (("2.2.5", "2.14"), (2, 14)), (("2.38", "2.4"), (2, 38))],
)
def test_newest_glibc_counts(versions, needed):
    assert tags.needed_glibc(_needs(*versions)) == needed


def test_stocks_tag_is_kept_where_it_holds():
    assert tags.platform_tag("manylinux2014_x86_64", []) == "manylinux2014_x86_64"
    assert tags.platform_tag("manylinux2014_x86_64", [_needs("2.17")]) == "manylinux2014_x86_64"


def test_tag_is_raised_where_an_extension_needs_more():
    libraries = [_needs("2.38"), _needs("2.4")]
    assert tags.platform_tag("manylinux2014_x86_64", libraries) == "manylinux_2_38_x86_64"


def test_real_extensions_are_understood(wheel):
    with zipfile.ZipFile(wheel) as archive:
        ours = [n for n in archive.namelist() if "client/cache/" in n and n.endswith(".so")]
        assert ours
        for name in ours:
            assert tags.needed_glibc(archive.read(name)) >= (2, 0)
