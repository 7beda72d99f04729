from __future__ import annotations

from pathlib import Path

from tests.benchmarks.figures import fill


def test_new_rows_replace_those_of_their_name_and_leave_the_others(tmp_path: Path) -> None:
    page = tmp_path / "speed.md"
    page.write_text("# Speed\n<!-- measured a -->\n<!-- /measured -->\nend\n")
    header = ("what", "ours")
    fill("a", header, [("x", "1 s"), ("y", "2 s")], page=page)
    fill("a", header, [("y", "3 s"), ("z", "")], page=page)
    lines = page.read_text().splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert table == ["| what | ours |", "| --- | --- |", "| x | 1 s |", "| y | 3 s |", "| z |  |"]
    assert (lines[0], lines[-1]) == ("# Speed", "end")
