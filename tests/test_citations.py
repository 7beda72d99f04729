"""The catalogue's papers have BibTeX, and what nobody knows is quoted as it stands."""

from __future__ import annotations

import re
import shutil
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from rlcondense.catalogue import Entry, add, data_root, entries
from rlcondense.citations import PACKAGE, bibtex, cite
from rlcondense.cli import main
from rlcondense.errors import UnknownName

PAPERS = tomllib.loads((data_root() / "registry" / "papers.toml").read_text())
CELL = "03b89e4e79b1072c"
RECORD = Path(__file__).parents[1] / "leaderboard" / "results" / f"{CELL}.json.gz"
WITHOUT_TITLE = {"after Sirigiri et al. 2026, arXiv:2603.11634"}


def references() -> list[str]:
    """Every reference that the catalogue has."""
    groups = ("methods", "learners", "tasks", "datasets")
    papers = [entry.paper for group in groups for entry in entries(group).values()]
    return sorted({part.strip() for paper in papers for part in paper.split(";") if part.strip()})


def test_every_paper_of_the_catalogue_is_in_the_table_and_no_other() -> None:
    texts = {reference: bibtex(reference)[0] for reference in references()}
    assert {r for r, text in texts.items() if "title = " not in text} == WITHOUT_TITLE
    used = {name for name in PAPERS if any(name in reference for reference in texts)}
    assert used == PAPERS.keys()
    keys = Counter(re.match(r"@\w+\{(\w+),", text)[1] for text in set(texts.values()))  # type: ignore[index]
    assert max(keys.values()) == 1, keys


def test_a_reference_and_its_entry_agree() -> None:
    for reference in references():
        text = bibtex(reference)[0]
        if number := re.search(r"arXiv:(\S+?)(?=[,\s]|$)", reference):
            assert f"eprint = {{{number[1]}}}" in text
        surname = re.search(
            r"([A-Z][\w-]+)(?: et al\.)?(?:(?:,| and) [A-Z][\w-]+)* \d{4}", reference
        )
        if surname:
            assert surname[1] in text, (reference, text)
        assert text.count("{") == text.count("}")


def test_names_and_records_are_cited() -> None:
    method = cite("gradmatch")
    assert method.startswith(PACKAGE)
    assert [line for line in method.splitlines() if line.startswith("@misc")] == [
        "@misc{light2024ddorl,",
        "@misc{zhao2021dcwgm,",
    ]
    done = CliRunner().invoke(main, ["cite", str(RECORD)])
    assert done.exit_code == 0, done.output
    for word in (
        f"@misc{{rlcondense-{CELL},", "light2024", "cobbe2020", "pomerleau1989",
        "@software{rlcondense",
    ):  # fmt: skip
        assert word in done.output
    assert "cobbe2020" in cite("procgen/starpilot-easy/expert-v1")
    with pytest.raises(UnknownName, match="did you mean 'gradmatch'"):
        cite("gradmach")


@pytest.mark.parametrize("folder", ["leaderboard/results", "results/records"])
def test_a_record_is_cited_by_its_id(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    missing = CliRunner().invoke(main, ["cite", CELL])
    assert missing.exit_code == 2
    assert f"no record {CELL} in leaderboard/results" in missing.output
    (tmp_path / folder).mkdir(parents=True)
    shutil.copy(RECORD, folder)
    done = CliRunner().invoke(main, ["cite", CELL])
    assert done.output == CliRunner().invoke(main, ["cite", str(RECORD)]).output


def test_a_plugins_paper_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlcondense.catalogue._registered", {})
    add(Entry("methods", "mine", "m:M", paper="Müller, Meier et al. 2027, arXiv:2701.00001"))
    assert cite("mine").removeprefix(PACKAGE).strip() == (
        "@misc{muller2027,\n  author = {Müller and Meier and others},\n  year = {2027},\n"
        "  eprint = {2701.00001},\n  archivePrefix = {arXiv},\n"
        "  note = {Müller, Meier et al. 2027, arXiv:2701.00001}\n}"
    )
