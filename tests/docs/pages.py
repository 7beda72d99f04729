"""The pages of documentation, their code blocks and the commands that they show."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("leaderboard/README.md")]
)


@dataclass(frozen=True)
class Block:
    """A fenced block of code.

    Attributes:
        page: path of its page from the repository's root.
        number: among the page's blocks of its language.
        code: its lines.
    """

    page: str
    number: int
    code: str

    def __str__(self) -> str:
        return f"{self.page}:{self.number}"


def name_of(page: Path) -> str:
    """The path of a page from the repository's root."""
    return page.relative_to(ROOT).as_posix()


def blocks(language: str) -> list[Block]:
    """All fenced blocks of a language."""
    found = []
    for page in PAGES:
        codes = re.findall(
            rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE
        )
        found += [Block(name_of(page), number, code) for number, code in enumerate(codes)]
    return found


def block(page: str, number: int = 0, language: str = "python") -> str:
    """The code of one block."""
    return next(b.code for b in blocks(language) if (b.page, b.number) == (page, number))


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every line that calls rlcondense, in a block or indented, with its page's name."""
    for page in PAGES:
        if page.name == "CHANGELOG.md":  # tells of commands as they were
            continue
        text = page.read_text().replace("\\\n", " ")
        for line in re.findall(r"^(?: {4,}(?:\$ )?|srun )(rlcondense .*)$", text, re.MULTILINE):
            yield name_of(page), shlex.split(line, comments=True)[1:]
