"""What the pages of documentation say is so: links, commands, names, tables and quoted numbers."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import click
import pytest

from rlcondense import catalogue
from rlcondense.cli import main
from rlcondense.comparison.rows import groups_of
from rlcondense.make import load_expert, make_learner, make_method, make_task
from rlcondense.reporting.board import publishable_results
from rlcondense.reporting.conclusions import read_conclusions
from rlcondense.running.pairs import id_and_settings
from rlcondense.running.suite import shipped_suites
from tests.docs.pages import PAGES, ROOT, commands, name_of
from tests.test_house import HEIGHTS

README = (ROOT / "README.md").read_text()
COMMANDS = list(commands())
# Names that the reader's own things have.
OWN = {
    "endings", "neighbour", "corridor", "mine/leaning-v0", "my-method", "mine",
    "ogbench/pointmaze-v0",
}  # fmt: skip


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not target.startswith(("http:", "https:")):
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            assert file.exists(), target
            assert not anchor or anchor in _anchors(file), target


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, new = set(), {ROOT / "README.md"}
    while new:
        reached |= new
        links = {
            (page.parent / target.partition("#")[0]).resolve()
            for page in new
            for target in re.findall(r"\]\(([^)\s]+\.md[^)\s]*)\)", page.read_text())
        }
        new = {link for link in links if link in PAGES} - reached
    assert reached == set(PAGES)


def _parsed(words: list[str]) -> tuple[str, dict[str, Any]]:
    """The path of a command and the values of its options; raises where it has no such option."""
    command: click.Command = main
    path = []
    while isinstance(command, click.Group) and words and words[0] in command.commands:
        path.append(words[0])
        command, words = command.commands[words[0]], words[1:]
    assert not isinstance(command, click.Group), f"no command of {' '.join([*path, *words[:1]])}"
    options, _, _ = command.make_parser(click.Context(command)).parse_args(list(words))
    return " ".join(path), options


def _is_known(group: str, name: str) -> bool:
    """Whether a name is in the catalogue, or stands for any."""
    if name in OWN or re.search(r"\b[A-Z]{2,}\b", name):
        return True
    if name.endswith((".safetensors", ".npz", ".hdf5")):
        return True
    names = {n for e in catalogue.entries(group).values() for n in (e.id, *e.aliases)}
    return name in names


def _many(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=lambda x: x if isinstance(x, str) else "")
def test_a_command_that_is_shown_can_be_given(page: str, words: list[str]) -> None:
    path, options = _parsed(words)
    methods = _many(options.get("method") or options.get("methods"))
    learners = _many(options.get("learner") or options.get("learners"))
    for task in _many(options.get("task") or options.get("tasks")):
        assert _is_known("tasks", task), task
    for dataset in _many(options.get("dataset")):
        ours = {e.id.split("/")[0] for e in catalogue.entries("datasets").values()}
        assert dataset.split("/")[0] not in ours or _is_known("datasets", dataset), dataset
    for method in methods:
        assert _is_known("methods", method.partition(":")[0]), method
    for learner in learners:
        assert _is_known("learners", learner.partition(":")[0]), learner
    if path in ("sweep", "status") and (name := options.get("suite")):
        assert name in shipped_suites() or name.endswith(".toml") or name.isupper(), name
    if path in ("run", "condense") and not set(methods) & OWN:
        _make(methods, learners, options.get("task"), _many(options.get("pairs")))


def _make(methods: list[str], learners: list[str], task: str | None, pairs: list[str]) -> None:
    """Make what a command names, with its settings: unknown keys and bad values raise."""
    if task and (task.isupper() or task in OWN):
        task = None
    settings = dict(pair.split("=", 1) for pair in pairs)
    own = {k: v for k, v in settings.items() if not k.startswith("learner.") and k != "student"}
    for text in methods:
        name, of_name = id_and_settings("method", text)
        if not name.isupper():
            make_method(name, task, **own, **of_name)
    of_learner = {k.removeprefix("learner."): v for k, v in settings.items() if "learner." in k}
    for name in (name for name in learners or ["bc"] if name not in OWN):
        make_learner(name, task, **of_learner)


def test_the_readme_is_short_and_has_its_two_commands() -> None:
    assert len(README.splitlines()) <= 120
    makefile = (ROOT / "Makefile").read_text()
    for target, runs in (("demo", "rlcondense run --method gradmatch --task starpilot"),
                         ("test", "pytest")):  # fmt: skip
        assert re.search(rf"^    make {target}\b", README, re.MULTILINE)
        recipe = makefile.split(f"\n{target}: $(READY)\n")[1].split("\n\n")[0]
        assert runs in recipe
    assert "libgl1 libglib2.0-0" in README


def test_the_readme_counts_what_there_is() -> None:
    counts = re.search(r"(\d+) condensation methods and (\d+) learners", README)
    assert counts is not None
    for number, group in zip(counts.groups(), ("methods", "learners"), strict=True):
        entries = catalogue.entries(group).values()
        assert int(number) == sum(e.origin.startswith("rlcondense ") for e in entries)


def test_the_readme_has_the_leaderboards_findings() -> None:
    assert generate.filled(README) == README
    found = read_conclusions(ROOT / "leaderboard")
    assert len(found) > generate.FIRST
    assert all((ROOT / one.page).is_file() for one in found)


def test_findings_quote_published_records() -> None:
    records, _ = publishable_results(ROOT / "leaderboard" / "results")
    published = [
        (mean.estimate, mean.standard_error)
        for group in groups_of(records.values())
        for row in group.rows
        if (mean := (row.returns or {}).get("heldout", {}).get("mean")) is not None
    ]
    findings = " ".join(one.text for one in read_conclusions(ROOT / "leaderboard"))
    quoted = re.findall(r"(-?\d+\.(\d+)) ± (\d+\.\d+)", findings)
    assert quoted
    for mean, digits, error in quoted:
        tolerance = 0.6 * 10.0 ** -len(digits)
        assert any(
            abs(float(mean) - m) < tolerance and abs(float(error) - e) < tolerance
            for m, e in published
            if e is not None
        ), f"{mean} ± {error}"


SPEC = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
assert SPEC is not None
assert SPEC.loader is not None
generate = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(generate)


@pytest.mark.parametrize("page", sorted(generate.PAGES.glob("*.md")), ids=lambda path: path.name)
def test_reference_pages_are_current(page: Path) -> None:
    """`make docs` writes them."""
    text = page.read_text()
    assert "<!-- generated " in text
    assert generate.filled(text) == text


def test_what_is_said_of_the_expert_of_starpilot() -> None:
    page = (ROOT / "docs" / "get-started.md").read_text()
    shown = re.search(r"returns (\d+), where (\d+) is the top of starpilot's score range", page)
    assert shown is not None
    returns = load_expert("starpilot").card["returns"]
    assert int(shown[1]) == round(returns["seen"]["mean"])
    assert make_task("starpilot").score_range == (2.5, float(shown[2]))


def test_the_design_names_every_package_from_the_top_down() -> None:
    page = (ROOT / "docs" / "design.md").read_text()
    table = page.split("## Packages\n")[1].split("\n## ")[0]
    named = re.findall(r"^\| `([\w.]+)` \|", table, re.MULTILINE)
    there = {
        path.name
        for path in (ROOT / "rlcondense").iterdir()
        if (path / "__init__.py").is_file() or (path.suffix == ".py" and path.stem[0] != "_")
    }
    assert sorted(named) == sorted(there)
    heights = [HEIGHTS[name.removesuffix(".py")] for name in named]
    assert heights == sorted(heights, reverse=True)
