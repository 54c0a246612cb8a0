"""The second stage: the stock wheel, member by member, with our files laid over it."""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path

import fork
import lock
import metadata
import stock
import tags
from wheel.wheelfile import WheelFile, get_zipinfo_datetime

_FILE = stat.S_IFREG | 0o644
_PROGRAM = stat.S_IFREG | 0o755


def file_name(wheel: lock.StockWheel, ours: Mapping[str, bytes]) -> str:
    """The fork's file name; its tags and version are those that the wheel's inside shows."""
    libraries = [content for path, content in ours.items() if path.endswith(".so")]
    platform = tags.platform_tag(wheel.platform, libraries)
    return f"ray-{fork.version(wheel.version)}-{wheel.python}-{wheel.python}-{platform}.whl"


def _member(path: str, mode: int) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(path, date_time=get_zipinfo_datetime())
    member.compress_type = zipfile.ZIP_DEFLATED
    member.external_attr = mode << 16
    return member


def _copy(member: zipfile.ZipInfo, path: str) -> zipfile.ZipInfo:
    """A header like ``member``'s under another name; of zip's own bookkeeping nothing is kept."""
    copy = zipfile.ZipInfo(path, date_time=member.date_time)
    copy.compress_type = member.compress_type
    copy.external_attr = member.external_attr
    return copy


def merge(
    locked: lock.StockWheel,
    stock_path: Path,
    ours: Mapping[str, bytes],
    licenses: Mapping[str, bytes],
    folder: Path,
) -> str:
    """Writes the fork's wheel.

    Args:
        locked: what the lock says of the stock wheel.
        stock_path: the stock wheel, its hash checked.
        ours: path in the wheel to content; takes the place of stock's files of the same path.
        licenses: name to content, for ``dist-info/licenses``.
        folder: where the wheel goes.

    Returns:
        The wheel's file name. The file appears complete or not at all.
    """
    name = file_name(locked, ours)
    partial = folder / f".partial-{os.getpid()}"
    partial.mkdir(parents=True)
    try:
        with WheelFile(stock_path) as source, WheelFile(partial / name, "w") as target:
            _overlay(source, target, ours)
            _dist_info(source, target, licenses)
        os.replace(partial / name, folder / name)
    finally:
        (partial / name).unlink(missing_ok=True)
        partial.rmdir()
    return name


def _overlay(source: WheelFile, target: WheelFile, ours: Mapping[str, bytes]) -> None:
    info = stock.dist_info(source.namelist()) + "/"
    for member in source.infolist():
        path = member.filename
        if not path.startswith(info):
            content = ours[path] if path in ours else source.read(member)
            target.writestr(_copy(member, path), content)
    for path in sorted(ours.keys() - set(source.namelist())):
        mode = _PROGRAM if path.endswith(".so") else _FILE
        target.writestr(_member(path, mode), ours[path])


def _dist_info(source: WheelFile, target: WheelFile, licenses: Mapping[str, bytes]) -> None:
    """Writes all but RECORD, which ``target`` makes itself when it is closed."""
    info = stock.dist_info(source.namelist()) + "/"
    parts = target.parsed_filename
    tag = f"{parts['pyver']}-{parts['abi']}-{parts['plat']}"
    for member in source.infolist():
        if not member.filename.startswith(info):
            continue
        inner = member.filename.removeprefix(info)
        if inner == "RECORD":
            continue
        content = source.read(member)
        if inner == "METADATA":
            content = metadata.core(content.decode(), parts["ver"]).encode()
        elif inner == "WHEEL":
            content = metadata.wheel(content.decode(), tag).encode()
        target.writestr(_copy(member, f"{target.dist_info_path}/{inner}"), content)
    for name, content in sorted(licenses.items()):
        target.writestr(_member(f"{target.dist_info_path}/licenses/{name}", _FILE), content)
