"""Escaping of untrusted text for terminals and logs of CI jobs."""

from __future__ import annotations

import json
import re
from typing import Any

# C0 and C1 control characters, line separators, marks that turn the direction of writing, the tags
# and the zero-width characters that hide text, and halves of surrogate pairs.
_UNSEEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f"
)
_CONTROL = re.compile(f"[{_UNSEEN}]")
# What GitHub, Azure and TeamCity obey: `::command::` where a line starts, `##[command]`,
# `##vso[command]` and the like anywhere in it.
_COMMAND = re.compile(r"^(?=[^\S\n]*::)([^\S\n]*):|#(?=#[A-Za-z]*\[)", re.MULTILINE)


def escaped(text: str) -> str:
    """Escape control characters and CI commands; lines and tabs stay.

    Args:
        text: one line or several.

    Returns:
        The text with each control character as `\\x1b`, and with no line that is a CI command.
    """
    plain = _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)
    return _COMMAND.sub(_without_command, plain)


def _without_command(match: re.Match[str]) -> str:
    return "\\x23" if match[1] is None else f"{match[1]}\\x3a"


def one_line(text: str) -> str:
    """Escape a text as `escaped` does, and its line ends too."""
    return escaped(text).replace("\n", "\\n").replace("\t", "\\t")


def shown(value: Any, longest: int = 80) -> str:
    """Format an untrusted value in plain ASCII, in one line, shortened."""
    return _cut(ascii(value), longest)


def unquoted(text: str, longest: int = 80) -> str:
    """A text that somebody else wrote, as `shown` gives values, but without quotes."""
    return _cut(ascii(text)[1:-1], longest)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}... ({len(text)} characters)"


def json_text(value: Any, *, sort_keys: bool = False) -> str:
    """Return indented JSON in ASCII without CI commands."""
    text = json.dumps(value, indent=2, sort_keys=sort_keys)
    return text.replace("##", "\\u0023#")


def markdown_text(text: str) -> str:
    """Escape a text so that Markdown shows it literally."""
    return re.sub(r"([\\`*<>|&~!#]|\](?=[(\[:]))", r"\\\1", re.sub(r"\s+", " ", text))
