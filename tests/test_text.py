"""What somebody else wrote is never obeyed by a terminal or a CI runner."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

import rlcondense
from rlcondense.text import escaped, json_text, one_line, shown, unquoted

PACKAGE = Path(rlcondense.__file__).parent


@pytest.mark.parametrize(
    "text",
    [
        "\x1b]0;title\x07", "\x1b[31mred", "\x9b31mred", "back\b\b", "over\rwritten", "\x00",
        "\x7f",
        "\u202egnp.exe", "\u2066x\u2069", "zero\u200bwidth", "\u2028", "half \ud800",
        "tag\U000e0041",
    ],
)  # fmt: skip
def test_what_a_terminal_obeys_is_escaped(text: str) -> None:
    for made in (escaped(text), one_line(text)):
        assert made.isprintable()
        assert "\\" in made


@pytest.mark.parametrize(
    "line",
    [
        "::error::x", "  ::warning file=a::x", "\t::add-mask::x", "##[error]x", "a ##[group]b",
        "##vso[task.setvariable]x", "##teamcity[x]", "\n\n ::stop-commands::x",
    ],
)  # fmt: skip
def test_no_line_is_a_command_of_ci(line: str) -> None:
    for made in (escaped(line), escaped(f"fine\n{line}\nfine"), json_text({line: [line]})):
        for printed in made.splitlines():
            assert not printed.strip().startswith("::"), printed
            assert "##[" not in printed, printed
            assert "##vso[" not in printed, printed
            assert "##teamcity[" not in printed, printed
    assert json.loads(json_text({line: [line]})) == {line: [line]}


def test_plain_text_stays_as_it_is() -> None:
    table = "method  return\n------  ------\nünï::ok   1.0 ± 0.1\t# 5"
    assert escaped(table) == table
    assert one_line("a\nb\tc") == "a\\nb\\tc"
    assert shown("é" * 100, 8) == "'\\xe9\\xe... (402 characters)"
    assert unquoted("é" * 100, 8) == "\\xe9\\xe9... (400 characters)"
    assert unquoted("44ef46713973f37a", 16) == "44ef46713973f37a"


def test_all_output_goes_through_the_one_function() -> None:
    """`click.echo` is called in the two functions of `console`, and nothing calls `print`."""
    calls = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            text = node.args and isinstance(node.args[0], ast.Constant)  # of ours, as it stands
            if name in ("click.echo", "click.secho") or (name == "print" and not text):
                calls.append(f"{path.name} {name}")
    assert calls == ["console.py click.echo"] * 2


def test_a_million_empty_lines_are_escaped_at_once() -> None:
    text = "\n" * 10**6
    assert escaped(text) == text
