from __future__ import annotations

import io
import sys

import pytest

from rlcondense.terminal import STAND_INS, write_what_can_be


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_every_terminal_gets_something_for_every_character(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "▁█ 3.5 ± 0.1 \u00d7 … 漢 \ud800"
    content = io.BytesIO()
    stream = io.TextIOWrapper(content, encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    write_what_can_be()
    print(text, flush=True)
    written = content.getvalue().decode(encoding)
    assert "3.5" in written
    assert written.rstrip().endswith("?")  # a lone surrogate is no character anywhere
    if encoding == "utf-8":
        assert "▁█ 3.5 ± 0.1 \u00d7 … 漢" in written
    else:
        assert written.startswith(".@ 3.5 ")
        assert "漢" not in written
    if encoding == "ascii":
        assert "+- 0.1 x ... ? ?" in written


def test_stand_ins_are_written_by_every_terminal() -> None:
    assert "".join(STAND_INS.values()).isascii()


def test_streams_that_cannot_be_set_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    write_what_can_be()
