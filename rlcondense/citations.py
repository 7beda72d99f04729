"""BibTeX of the package and of the papers that the catalogue names.

Entries of the catalogue name papers in a few words; `registry/papers.toml` has their titles and
authors.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from rlcondense import __version__
from rlcondense.catalogue import GROUPS, Entry, data_root, entries, find
from rlcondense.errors import UnknownName, UnknownVersion

PACKAGE = f"""@software{{rlcondense,
  title = {{{{rlcondense: a benchmark of dataset condensation in reinforcement learning}}}},
  author = {{{{The rlcondense authors}}}},
  version = {{{__version__}}}
}}"""
_ARXIV = re.compile(r"arXiv:\d{4}\.\d{4,5}")
_AUTHORS = re.compile(r"(?P<authors>[A-Z][\w\-., ]*?) (?P<year>\d{4})\b")
_OF_CELL = {"tasks": "task", "datasets": "dataset"}  # keys of a cell, by group


def cite(name: str) -> str:
    """Return the BibTeX of the package and of the papers behind a name of the catalogue.

    Args:
        name: of a method, task, learner or dataset. A name that several groups have means all.

    Raises:
        UnknownName: the catalogue has no such name.

    Example:
        >>> print(cite("hades-r"))  # doctest: +ELLIPSIS
        @software{rlcondense,
        ...
        @misc{lupu2024bd,
        ...
    """
    return _bibliography(_entries_named(name))


def cite_cell(cell: Mapping[str, Any]) -> str:
    """Return the BibTeX of the package and of all papers behind a record.

    Args:
        cell: of the record.
    """
    names = [(group, cell[key]) for group, key in _OF_CELL.items()]
    names += [("methods", cell["method"]["id"])]
    names += [("learners", cell["learner"]["id"])] if cell["learner"] else []
    return cite_entries(names)


def cite_entries(names: Iterable[tuple[str, str]]) -> str:
    """Return the BibTeX of the package and of the papers behind entries of the catalogue.

    Args:
        names: group and id of each; those that the catalogue lacks have no papers.
    """
    known = [entries(group).get(name) for group, name in names]
    return _bibliography(entry for entry in known if entry is not None)


def bibtex(paper: str) -> list[str]:
    """Return the BibTeX of each paper that an entry of the catalogue names.

    Args:
        paper: as `Entry.paper` has it: references, with semicolons between them.
    """
    return [_entry(part.strip()) for part in paper.split(";") if part.strip()]


def _entries_named(name: str) -> list[Entry]:
    found = []
    for group in GROUPS:
        try:
            found.append(find(group, name))
        except UnknownVersion:
            raise
        except UnknownName:
            continue
    if not found:
        known = [n for group in GROUPS for e in entries(group).values() for n in (e.id, *e.aliases)]
        raise UnknownName("method, task, learner or dataset", name, known)
    return found


def _bibliography(of: Iterable[Entry]) -> str:
    """Return the entries of the package and of all papers, each once; a dataset has its task's."""
    papers = []
    for entry in of:
        papers.append(entry.paper)
        if entry.group == "datasets" and (
            task := entries("tasks").get(entry.facts.get("task", ""))
        ):
            papers.append(task.paper)
    texts = dict.fromkeys([PACKAGE, *(text for paper in papers for text in bibtex(paper))])
    return "\n\n".join(texts)


@cache
def _known() -> Mapping[str, Mapping[str, Any]]:
    """Return the fields of the papers by arXiv's number, or by authors and year."""
    return tomllib.loads((data_root() / "registry" / "papers.toml").read_text(encoding="utf-8"))


def _entry(reference: str) -> str:
    """Return the BibTeX of a reference; of an unknown paper, what the reference says."""
    number = _ARXIV.search(reference)
    name = number[0] if number else next(filter(reference.startswith, _known()), "")
    paper = dict(_known().get(name, {}))
    named = _AUTHORS.search(reference)
    if not paper:
        paper["note"] = reference
        if named:
            paper |= {"authors": _surnames(named["authors"]), "year": named["year"]}
    fields: dict[str, Any] = {
        "title": f"{{{paper['title']}}}" if "title" in paper else None,
        "author": " and ".join(paper.get("authors", ())) or None,
        "year": paper.get("year"),
        "eprint": number[0].removeprefix("arXiv:") if number else None,
        "archivePrefix": "arXiv" if number else None,
    }
    fields |= {key: paper.get(key) for key in ("booktitle", "journal", "howpublished", "note")}
    kind = {"booktitle": "inproceedings", "journal": "article"}
    type_ = next((kind[key] for key in kind if key in paper), "misc")
    lines = [f"  {key} = {{{value}}}" for key, value in fields.items() if value is not None]
    return f"@{type_}{{{_key(paper, reference)},\n" + ",\n".join(lines) + "\n}"


def _surnames(text: str) -> list[str]:
    """Split `Lupu et al.`, or `Lei, Zhang and Tao`, into names as BibTeX has them."""
    parts = re.split(r", | and ", text.replace(" et al", ", others"))
    return [part.strip(" .") for part in parts]


def _key(paper: Mapping[str, Any], reference: str) -> str:
    """Return a key such as `lupu2024bd`: author, year, and the first letters of the title's words.

    Without an author it is made of the reference.
    """
    if "authors" in paper:
        letters = "".join(word[0] for word in re.findall(r"\w{4,}", paper.get("title", "")))
        reference = f"{paper['authors'][0].split()[-1]}{paper['year']}{letters}"
    plain = unicodedata.normalize("NFKD", reference).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]", "", plain.lower())
