"""Lines look as Ray shows them to a driver, whatever they are."""

from __future__ import annotations

import io
import os
from typing import Any, Dict, Optional
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray._private.worker import print_worker_logs
from ray.experimental.tqdm_ray import RAY_TQDM_MAGIC
from ray.util.client.session.printed import BAR_MARK, INFO_MARK, Style, shown

NODE = "10.0.0.1"

texts = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))
batches = st.fixed_dictionaries(
    {
        "pid": st.sampled_from(["raylet", "gcs_server", "runtime_env", "", "0", "7", "12345"]),
        "ip": st.sampled_from([NODE, "10.0.0.2"]),
        "actor_name": st.sampled_from(["", "Actor", "{name}"]),
        "task_name": st.sampled_from(["", "task"]),
        "is_err": st.booleans(),
        "job": st.just("01000000"),
        "lines": st.lists(
            st.one_of(texts, texts.map(lambda text: f"a{INFO_MARK}{text}{INFO_MARK}b"))
        ),
    }
)


def rays(batch: Dict[str, Any], colour: Optional[str]) -> str:
    sink = io.StringIO()
    environment = {} if colour is None else {"RAY_COLOR_PREFIX": colour}
    with patch.dict(os.environ, environment), patch("builtins.print", print):
        if colour is None:
            os.environ.pop("RAY_COLOR_PREFIX", None)
        print_worker_logs({**batch, "localhost": NODE}, sink)
    return sink.getvalue()


def ours(batch: Dict[str, Any], colour: Optional[str], limit: int = 64) -> str:
    style = Style(NODE, colour or "")
    return b"".join(text.data for text in shown(batch, style, limit)).decode()


@pytest.mark.parametrize("colour", [None, "0", "1", "2"])
@given(batch=batches)
def test_lines_look_as_in_a_driver(colour: Optional[str], batch: Dict[str, Any]) -> None:
    assert ours(batch, colour) == rays(batch, colour)


def a_batch(*lines: str) -> Dict[str, Any]:
    return {"pid": "1", "ip": NODE, "is_err": False, "job": "", "lines": list(lines)}


def test_progress_bars_are_left_out() -> None:
    assert BAR_MARK == RAY_TQDM_MAGIC
    batch = a_batch("before", f'{{"__magic_token__": "{BAR_MARK}"}}', "after")
    (text,) = shown(batch, Style(NODE))
    assert (text.lines, text.data.count(b"\n")) == (2, 2)
    assert list(shown(a_batch(BAR_MARK), Style(NODE))) == []


def test_long_batches_are_cut_between_lines() -> None:
    batch = a_batch(*("x" * 20 for _ in range(10)), "y" * 500, "z")
    cut = list(shown(batch, Style(NODE, "0"), limit=100))
    assert sum(text.lines for text in cut) == 12
    assert all(text.data.count(b"\n") == text.lines for text in cut)
    assert all(len(text.data) <= 100 or text.lines == 1 for text in cut)


def test_what_is_no_text_harms_nobody() -> None:
    (text,) = shown(a_batch("\ud800"), Style(NODE, "0"))
    assert text.data == b"(pid=1) ?\n"
