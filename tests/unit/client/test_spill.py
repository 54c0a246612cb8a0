"""Messages that go to disk come back whole, and leave nothing behind."""

from __future__ import annotations

import os
import threading

import pytest

from ray.util.client import spill
from ray.util.client.spill import SpillStore


def test_what_was_written_is_read(tmp_path):
    store = SpillStore(str(tmp_path))
    written = [(bytes([n]) * n, None if n % 2 else bytes([n]) * 10 * n) for n in range(50)]
    places = [store.write(*each) for each in written]
    assert [place.read() for place in places] == written


def test_nothing_has_a_name_in_the_folder(tmp_path):
    store = SpillStore(str(tmp_path))
    place = store.write(b"message", b"payload")
    assert os.listdir(tmp_path) == [] and place.read() == (b"message", b"payload")


def test_a_file_is_closed_when_nothing_in_it_is_needed(tmp_path, monkeypatch):
    monkeypatch.setattr(spill, "_FILE_BYTES", 10)
    store = SpillStore(str(tmp_path))
    first, second = store.write(b"x" * 10, None), store.write(b"y" * 10, None)
    assert first.file is not second.file
    descriptor = first.file.fileno()
    del first
    with pytest.raises(OSError):
        os.fstat(descriptor)
    assert second.read() == (b"y" * 10, None)


def test_threads_may_write_at_once(tmp_path):
    store, places = SpillStore(str(tmp_path)), {}

    def write(n):
        places[n] = [store.write(bytes([n]) * 100, bytes([n])) for _ in range(100)]

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(p.read() == (bytes([n]) * 100, bytes([n])) for n in places for p in places[n])


def test_a_folder_that_is_gone_is_told(tmp_path):
    with pytest.raises(OSError):
        SpillStore(str(tmp_path / "gone")).write(b"", None)
