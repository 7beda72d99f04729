"""The static site: what it says, what it refuses, and that it needs nothing else."""

from __future__ import annotations

import gzip
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import fastjsonschema
import pytest

from rlcondense import catalogue
from rlcondense.catalogue import Entry
from rlcondense.citations import cite
from rlcondense.cli.base import split_settings
from rlcondense.cli.run import run
from rlcondense.comparison.rows import groups_of
from rlcondense.comparison.tables import correlations_range
from rlcondense.errors import CorruptArtifact, MissingExtra, RLCondenseError
from rlcondense.files import write_packed
from rlcondense.findings import finding_of
from rlcondense.make import make_task
from rlcondense.records.cell import Cell, budget_size, learner_json, method_json
from rlcondense.reporting.board import OTHERS, Board, SuitePart, build_board, read_results
from rlcondense.reporting.commands import command_of
from rlcondense.reporting.derived import look_beside
from rlcondense.reporting.log import LOG, Change, append_entry, read_log
from rlcondense.reporting.log import Entry as LogEntry
from rlcondense.reporting.pages import tasks
from rlcondense.reporting.pages.drawn import Picture
from rlcondense.reporting.pages.lines import tracks
from rlcondense.reporting.pages.methods import shown_pictures
from rlcondense.reporting.pages.render import paper_parts
from rlcondense.reporting.pages.shared import Site
from rlcondense.reporting.pages.suites import by_worth
from rlcondense.reporting.pages.tasks import task_pages
from rlcondense.reporting.pictures import MOST_BYTES
from rlcondense.reporting.publish import build, fill_in
from rlcondense.reporting.reruns import RERUNS, WrittenRerun, read_reruns, write_reruns
from rlcondense.reporting.site import MARKER, build_site
from rlcondense.running.pairs import make_pair
from tests.docs.records import record
from tests.reporting.boards import (
    GRADMATCH,
    POLICY,
    RANDOM,
    SHIPPED,
    Record,
    add_picture,
    forge,
    png,
    read_shipped,
    rich_leaderboard,
    shipped_leaderboard,
)

PLAIN_JUMPER = [f"procgen/jumper-plain/{kind}-v0" for kind in ("expert", "mixed", "random")]
ROOT = Path(__file__).parents[2]
EVIL = "<script>alert(1)</script>"
TICKED, LEVELS = re.compile(r'data-cells="([^"]*)"'), re.compile(r'^"([0-9a-f-]+)": ', re.M)


class Tags(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, *names: str) -> list[tuple[str, str]]:
        return [(tag, a[name]) for tag, a in self.found for name in names if name in a]


def board_of(leaderboard: Path) -> Board:
    return build_board(read_results(leaderboard / "results"))


def site_of(leaderboard: Path, *, suites: bool = False) -> Path:
    out = leaderboard.parent / f"{leaderboard.name}-site"
    results = read_results(leaderboard / "results")
    build_site(build_board(results, None if suites else ()), leaderboard, out)
    return out


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rich_leaderboard(tmp_path_factory.mktemp("rich") / "leaderboard")


@pytest.fixture(scope="module")
def site(rich: Path) -> Path:
    return site_of(rich, suites=True)


@pytest.mark.slow
def test_the_published_records_make_a_light_site_and_the_tables_of_pages(tmp_path: Path) -> None:
    shutil.copytree(SHIPPED, tmp_path / "leaderboard" / "results")
    board, files = build(tmp_path / "leaderboard", site=tmp_path / "site")
    results = ROOT / "docs" / "results"
    asking = [p for p in sorted(results.glob("*.md")) if "\n<!-- leaderboard " in p.read_text()]
    assert [page.name for page in asking] == ["light2024.md"]
    for page in asking:
        assert f"--into docs/results/{page.name}" in (ROOT / "Makefile").read_text()
        document = Path(shutil.copy(page, tmp_path))
        fill_in(document, board)
        # Numbers there are rounded, so that another machine's last bits do not matter.
        assert document.read_text() == page.read_text()
    pages = [path for path in files if path.is_relative_to(tmp_path / "site")]
    sizes = {path: path.stat().st_size for path in pages}
    apart = {"records", "frames", "pictures"}
    others = sum(size for path, size in sizes.items() if path.parent.name not in apart)
    records = len(list(SHIPPED.glob("*.json.gz")))
    assert others < 9_000 * records
    for_machines = sizes.pop(tmp_path / "site" / "leaderboard.json")
    assert for_machines < 500 * records
    assert max(sizes.values()) < 650_000  # a page of 280 rows; a tenth when a server packs it
    assert (tmp_path / "site" / "records" / f"{GRADMATCH}.html") in pages
    texts = [path.read_text() for path in pages if path.suffix == ".html"]
    assert not [text for text in texts if 'class="n none">' in text]  # it would sort as a dash
    keys = {key for text in texts for part in TICKED.findall(text) for key in part.split()}
    scripts = {path.stem: path.read_text() for path in pages if path.parent.name == "levels"}
    levels = {task: set(LEVELS.findall(text)) for task, text in scripts.items()}
    assert len(keys) > 1000
    for task, key in (key.split(":") for key in keys):
        assert key in levels[task]  # the sets that the ticked row has, not those of another one


def test_of_many_pictured_sets_the_smallest_of_each_task_are_shown() -> None:
    def picture(task: str, size: int, seed: int) -> Picture:
        cell: Any = {"task": task, "condensation_seed": seed}
        return Picture(f"{task} {size} {seed}", cell, 1, 1, {"size": size}, None, "")

    sets = [picture(task, size, seed) for seed in (1, 0) for size in (150, 15) for task in "cba"]
    few = [p.id for p in shown_pictures(sets)]
    assert (few[:3], len(few)) == (["a 15 0", "a 15 1", "a 150 0"], 12)
    of_many = shown_pictures([*sets, picture("d", 1500, 0)])
    assert [p.id for p in of_many] == ["a 15 0", "b 15 0", "c 15 0", "d 1500 0"]


def test_every_internal_link_leads_to_a_file(site: Path) -> None:
    for page in site.rglob("*.html"):
        ids = {a["id"] for _, a in Tags(page).found if "id" in a}
        for _, target in Tags(page).values("href", "src"):
            parts = urlsplit(target)
            if parts.scheme:
                continue
            aim = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            assert aim.is_file(), f"{page.name}: {target}"
            assert aim.is_relative_to(site.resolve()), target
            if parts.fragment and aim == page:
                assert parts.fragment in ids, f"{page.name}: {target}"


def test_nothing_but_links_leaves_the_folder(site: Path) -> None:
    for page in site.rglob("*.html"):
        for tag, target in Tags(page).values("href", "src", "srcset", "data", "action"):
            scheme = urlsplit(target).scheme
            assert not scheme or target == "data:," or (tag == "a" and scheme == "https"), target
    for part in ("style.css", "site.js", "compare.js"):
        assert "http" not in (site / part).read_text()


def test_pages_have_no_scripts_or_styles_of_their_own(site: Path) -> None:
    for page in site.rglob("*.html"):
        tags = Tags(page)
        scripts = [a for tag, a in tags.found if tag == "script"]
        names = [a["src"].removeprefix("../") for a in scripts]
        assert names[-1] == "site.js"
        assert {*names[:-1]} <= {"views.js", "compare.js"}
        assert not [tag for tag, _ in tags.found if tag in ("style", "iframe", "object", "base")]
        assert not [name for _, a in tags.found for name in a if name.startswith("on")]
        assert not tags.values("style")
        policy = next(a["content"] for _, a in tags.found if "http-equiv" in a)
        assert policy.startswith("default-src 'none'")


def test_pages_are_made_for_everyone(site: Path) -> None:
    for page in site.rglob("*.html"):
        found = Tags(page).found
        tags = [tag for tag, _ in found]
        assert dict(found)["html"] == {"lang": "en"}
        assert tags.count("h1") == tags.count("main") == tags.count("nav") == 1
        assert tags.count("table") == tags.count("caption")
        assert not [a for tag, a in found if tag == "img" and not a.get("alt")]
        assert not [a for tag, a in found if tag == "th" and "scope" not in a]


BUILD = """
import sys
from pathlib import Path
from rlcondense.reporting.board import build_board, read_results
from rlcondense.reporting.site import build_site
board, out = map(Path, sys.argv[1:])
build_site(build_board(read_results(board / "results")), board, out)
"""


@pytest.mark.slow
def test_equal_records_give_equal_bytes(rich: Path, site: Path, tmp_path: Path) -> None:
    # In another process, whose sets have another order.
    command = [sys.executable, "-c", BUILD, str(rich), str(tmp_path / "again")]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": "1"})
    names = sorted(path.relative_to(site) for path in site.rglob("*") if path.is_file())
    again = tmp_path / "again"
    assert names == sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file())
    for name in names:
        assert (site / name).read_bytes() == (again / name).read_bytes(), name


@pytest.mark.parametrize("packed_there", [False, True])
def test_records_and_tables_come_along_if_they_are_to(
    rich: Path, tmp_path: Path, packed_there: bool
) -> None:
    if packed_there:
        there = shutil.copytree(rich, tmp_path / "packed")
        for path in (there / "results").glob("*.json"):
            write_packed(path.with_name(f"{path.name}.gz"), path.read_bytes())
            path.unlink()
    build_site(board_of(rich), there if packed_there else rich, tmp_path / "whole", data=True)
    packed = (tmp_path / "whole" / "records" / f"{GRADMATCH}.json.gz").read_bytes()
    assert gzip.decompress(packed) == (rich / "results" / f"{GRADMATCH}.json").read_bytes()
    assert (tmp_path / "whole" / "suites" / "other.csv").is_file()
    (line,) = (x for x in (ROOT / "Makefile").read_text().splitlines() if "--site build/site" in x)
    assert "--data" in line.split()  # so that the pages of records link to them


def test_a_page_of_a_record_says_what_is_in_it(site: Path) -> None:
    text = Tags(site / "records" / f"{GRADMATCH}.html").text
    record = read_shipped(GRADMATCH)
    commit = record["environment"]["git"]["commit"]
    for fact in (commit, "0.850", "103.954", "cross-entropy", "--size 150", "light2024"):
        assert fact in text


def test_a_task_shows_curves_costs_transfer_datasets_and_its_expert(site: Path) -> None:
    text = Tags(site / "tasks" / "procgen-starpilot-easy-v0.html").text
    assert (site / "frames" / "procgen-starpilot-easy-v0-1.png").is_file()  # the plain picture
    for part in ("plain picture: the same states", "acts uniformly at random: the floor"):
        assert text.count(part) == 1
    for part in ("transitions kept", "seconds to condense", "Transfer between learners", "6.272"):
        assert part.replace("6.272", "6.27") in text
    assert "12,815" in text  # transitions of the expert's dataset, from the catalogue


def test_a_task_without_records_shows_its_data_and_what_the_catalogue_states(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlcondense.reporting.pages.tasks.strips_of", lambda task: [])
    leaderboard = shipped_leaderboard(tmp_path / "leaderboard")
    board = build_board(read_results(leaderboard / "results"), ())
    made = Site(board, leaderboard, data=False)
    made.tasks["procgen/jumper-plain-v0"] = "jumper"  # as of a suite that is not begun there
    ((_, content),) = task_pages(made, "procgen/jumper-plain-v0", {})
    (tmp_path / "page.html").write_bytes(content)
    page = Tags(tmp_path / "page.html")
    assert "No learner has a record here yet" in page.text
    drawn = [label for _, label in page.values("aria-label") if label.startswith("returns of")]
    assert drawn == ["returns of 100 episodes, from 0 to 10"] * 3
    for name in PLAIN_JUMPER:
        assert f"{catalogue.find('datasets', name).facts['information']:.3f}" in page.text
    assert page.text.count("from the catalogue, no record here") == 2  # the expert and the floor


def test_every_page_says_how_it_is_cited(site: Path) -> None:
    texts = {page: Tags(page).text for page in site.rglob("*.html")}
    assert [page for page, text in texts.items() if text.count("@software{rlcondense") != 1] == []
    assert cite("gradmatch") in texts[site / "methods" / "gradmatch.html"]
    assert cite("starpilot") in texts[site / "tasks" / "procgen-starpilot-easy-v0.html"]
    for name in ("index.html", "suites/other.html", f"records/{GRADMATCH}.html"):
        for paper in ("@misc{light2024ddorl,", "cobbe2020"):
            assert paper in texts[site / name], name


def test_a_method_shows_its_pictures_and_actions(site: Path) -> None:
    page = Tags(site / "methods" / "gradmatch.html")
    shown = [a for tag, a in page.found if tag == "img"]
    assert [(a["width"], a["height"]) for a in shown] == [("20", "30")] * 2
    assert "0: 50% (dataset 20%)" in " ".join(value for _, value in page.values("aria-label"))
    assert "the difference around grey, 2 times larger than it is: rows 0, 75 of 150" in page.text
    assert "uses the dataset alone" in page.text
    assert "rlcondense/methods/gradmatch.py, GradMatch" in page.text
    assert "grad_theta L(D_syn)" in page.text  # the formula of its module


@pytest.mark.parametrize(
    ("content", "shown"),
    [(b"<svg onload=alert(1)>", False), (png(3, 3) + b"\0" * MOST_BYTES, False), (png(3, 3), True)],
)
def test_only_small_pngs_are_pictures(tmp_path: Path, content: bytes, shown: bool) -> None:
    leaderboard = shipped_leaderboard(tmp_path / "leaderboard")
    record = json.loads((leaderboard / "results" / f"{GRADMATCH}.json").read_text())
    add_picture(leaderboard, record).write_bytes(content)
    assert (site_of(leaderboard) / "pictures").exists() == shown


TENTHS = f'"steps": {[0.1] * 10}, "returns": {[0.1] * 10}'  # beside which the tiers stand


@pytest.mark.parametrize(
    "said",
    ["", "[]", '{"actions": ["<b>", 1]}', '{"actions": [NaN]}', '{"kind": {"a": "<b>"}}',
     f'{{{TENTHS}, "tiers": {{"<b>x</b>": [0.5, 0.25]}}}}', f'{{{TENTHS}, "tiers": [1]}}',
     f'{{{TENTHS}, "tiers": {{"x": [2, "<b>"]}}}}',
     '{"rows": "<script>", "size": "<script>", "label_kind": [1], "actions": [1.0, 0.0]}'],
)  # fmt: skip
def test_malformed_words_on_a_picture_do_no_harm(tmp_path: Path, said: str) -> None:
    leaderboard = shipped_leaderboard(tmp_path / "leaderboard")
    record = json.loads((leaderboard / "results" / f"{GRADMATCH}.json").read_text())
    add_picture(leaderboard, record).with_suffix(".json").write_text(said)
    page = site_of(leaderboard) / "methods" / "gradmatch.html"
    assert "<b>" not in page.read_text().replace("<b>0</b>", "")
    assert len([tag for tag, _ in Tags(page).found if tag == "script"]) == 1
    assert ("By who played: <b>x</b> 50%" in Tags(page).text) == ("<b>x</b>" in said)


def test_datasets_of_one_machine_are_on_no_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaderboard = shipped_leaderboard(tmp_path / "leaderboard")
    before = {path.name: path.read_bytes() for path in site_of(leaderboard).glob("tasks/*.html")}
    facts = {
        "task": "procgen/starpilot-easy-v0", "transitions": "20001", "returns": "text",
        "expert": "procgen/coinrun-plain-v0", "base": "procgen/starpilot-easy/expert-v0",
    }  # fmt: skip
    mine = Entry("datasets", "mine/x-v1", catalogue.FILE, facts=facts)
    monkeypatch.setattr(catalogue, "added", lambda: {mine.id: mine})
    assert "mine/x-v1" in catalogue.entries("datasets")
    shutil.rmtree(site_of(leaderboard))
    after = {path.name: path.read_bytes() for path in site_of(leaderboard).glob("tasks/*.html")}
    assert after == before
    forge(leaderboard, lambda record: record["cell"].update(dataset=mine.id))
    shutil.rmtree(site_of(leaderboard))
    page = site_of(leaderboard) / "tasks" / "procgen-starpilot-easy-v0.html"
    assert "mine/x-v1" in page.read_text()
    assert "procgen/coinrun-plain-v0" not in page.read_text()


def test_records_of_no_suite_are_counted_one_by_one(tmp_path: Path) -> None:
    leaderboard = shipped_leaderboard(tmp_path / "leaderboard")

    def undone(status: str, seed: int) -> None:
        def change(record: Record) -> None:
            for part in ("returns", "lengths", "level_seeds", "summary"):
                del record[part]
            record["cell"]["budget"] = {"size": 77}
            record["cell"]["condensation_seed"] = seed
            record.update(status=status, reason="none")

        forge(leaderboard, change)

    for seed, status in enumerate(("skipped", "failed", "failed")):
        undone(status, seed)
    forge(leaderboard, lambda r: r["cell"].update(budget={"size": 77}, condensation_seed=3))
    board = board_of(leaderboard)
    (others,) = (part for part in board.suites if part.name == OTHERS)
    assert list(others.undone.items()) == [("failed", 2), ("skipped", 1)]
    assert others.planned == others.done + 3
    of_suites = {
        cell
        for part in board.suites
        if part is not others
        for group in part.groups
        for row in group.rows
        for cell in row.cells
    }
    assert others.done == len(
        {k for k, r in board.records.items() if r["status"] == "done"} - of_suites
    )


def test_what_records_say_is_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "_registered", {})
    catalogue.add(Entry("methods", "evil", "no:Such", summary=EVIL, paper="javascript:alert(1)"))
    leaderboard = shipped_leaderboard(tmp_path / "leaderboard")

    def corrupt(record: Record) -> None:
        record["cell"]["method"] = {"id": "evil", "config": {EVIL: '" onload="alert(1)'}}
        record["cell"]["learner"]["config"]["network"] = "{{7*7}}"
        record["plugins"] = [{"target": EVIL, "distribution": EVIL, "version": "'><img src=x>"}]
        record["environment"] |= {"cpu": EVIL, "rlcondense": EVIL, "device": EVIL}

    def fail(record: Record) -> None:
        corrupt(record)
        for part in ("returns", "lengths", "level_seeds", "summary"):
            del record[part]
        record["cell"]["budget"] = {"size": 3}
        record |= {"status": "failed", "reason": f'"onmouseover="alert(1) {EVIL}'}

    ids = [forge(leaderboard, change)["cell_id"] for change in (corrupt, fail)]
    site = site_of(leaderboard)
    for page in site.rglob("*.html"):
        tags = Tags(page)
        scripts = [a["src"] for tag, a in tags.found if tag == "script"]
        assert {src.removeprefix("../") for src in scripts} <= {"site.js", "views.js", "compare.js"}
        assert not [name for _, a in tags.found for name in a if name.startswith("on")]
        pictures = [a["src"] for tag, a in tags.found if tag == "img"]
        assert all(source.startswith("../frames/procgen-") for source in pictures)
        assert not [value for _, value in tags.values("href") if "javascript" in value]
    for cell_id in ids:
        text = Tags(site / "records" / f"{cell_id}.html").text
        assert "{{7*7}}" in text
        assert EVIL in text
    assert "javascript:alert(1)" in Tags(site / "methods" / "evil.html").text


@pytest.mark.parametrize("name", ["<script>", "../../evil", "a b", "evil\0", "", "x/../../y"])
def test_names_that_no_file_can_have_are_refused(tmp_path: Path, name: str) -> None:
    leaderboard = shipped_leaderboard(tmp_path / "leaderboard")
    forge(leaderboard, lambda record: record["cell"]["method"].update(id=name))
    with pytest.raises(RLCondenseError, match="cannot be made into a file name"):
        site_of(leaderboard)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["leaderboard"]


def test_a_record_whose_name_is_no_cell_id_is_refused(tmp_path: Path) -> None:
    leaderboard = shipped_leaderboard(tmp_path / "leaderboard")
    record = json.loads((leaderboard / "results" / f"{RANDOM}.json").read_text())
    record["cell_id"] = "..%2fevil"
    (leaderboard / "results" / "..%2fevil.json").write_text(json.dumps(record))
    with pytest.raises(RLCondenseError, match="is no record"):
        site_of(leaderboard)


def test_a_record_that_says_too_little_is_refused(tmp_path: Path) -> None:
    leaderboard = shipped_leaderboard(tmp_path / "leaderboard")
    forge(leaderboard, lambda r: [r["timings"].pop("train"), r["summary"].pop("seen")])
    with pytest.raises(CorruptArtifact, match="03b89e4e79b1072c"):
        site_of(leaderboard)


def test_methods_whose_pages_would_have_one_name_are_told_apart(tmp_path: Path) -> None:
    leaderboard = shipped_leaderboard(tmp_path / "leaderboard")
    for name in ("lab/mine", "lab-mine"):
        forge(leaderboard, lambda record, name=name: record["cell"]["method"].update(id=name))
    pages = [Tags(p) for p in (site_of(leaderboard) / "methods").glob("lab-mine*.html")]
    assert {name for page in pages for name in ("lab/mine", "lab-mine") if name in page.text} == {
        "lab/mine",
        "lab-mine",
    }
    assert len(pages) == 2


def test_pages_of_an_earlier_build_are_removed_and_nothing_else(tmp_path: Path) -> None:
    leaderboard = shipped_leaderboard(tmp_path / "leaderboard")
    gone = forge(leaderboard, lambda record: record["cell"].update(condensation_seed=5))["cell_id"]
    site = site_of(leaderboard)
    (site / "CNAME").write_text("example.org")
    (leaderboard / "results" / f"{gone}.json").unlink()
    site_of(leaderboard)
    assert not list(site.rglob(f"{gone}*"))
    assert (site / "CNAME").exists()


def test_a_build_that_was_stopped_leaves_no_stray_pages(tmp_path: Path) -> None:
    leaderboard = shipped_leaderboard(tmp_path / "leaderboard")
    forge(leaderboard, lambda record: record["summary"].pop("seen"))
    with pytest.raises(CorruptArtifact):
        site_of(leaderboard)
    (leaderboard / "results" / f"{GRADMATCH}.json").unlink()
    site = site_of(leaderboard)
    listed = {*(site / MARKER).read_text().splitlines(), MARKER}
    assert listed == {str(p.relative_to(site)) for p in site.rglob("*") if p.is_file()}


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    leaderboard = shipped_leaderboard(tmp_path / "leaderboard")
    (tmp_path / "leaderboard-site").mkdir()
    (tmp_path / "leaderboard-site" / "thesis.tex").write_text("years of work")
    with pytest.raises(RLCondenseError, match="holds other things"):
        site_of(leaderboard)
    assert [path.name for path in (tmp_path / "leaderboard-site").iterdir()] == ["thesis.tex"]


def test_a_marker_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    leaderboard = shipped_leaderboard(tmp_path / "leaderboard")
    (tmp_path / "thesis.tex").write_text("years of work")
    site = site_of(leaderboard)
    (site / MARKER).write_text("../thesis.tex\n")
    with pytest.raises(RLCondenseError, match="no page of a site"):
        site_of(leaderboard)
    assert (tmp_path / "thesis.tex").exists()


def test_without_jinja_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    leaderboard = shipped_leaderboard(tmp_path / "leaderboard")
    with pytest.raises(MissingExtra, match=r"rlcondense\[site\]"):
        build(leaderboard, site=tmp_path / "site")
    assert not (leaderboard / "leaderboard.json").exists()


def test_more_rows_than_one_page_takes_are_left_to_the_tasks(
    rich: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlcondense.reporting.pages.shared.MOST_ROWS", 5)
    build_site(board_of(rich), rich, tmp_path / "site")
    page = Tags(tmp_path / "site" / "rows.html")
    assert "too many rows" in page.text
    for task in {group.task for group in board_of(rich).groups}:
        assert task in page.text.replace("\u200b", "")


def test_rows_beside_no_dataset_have_a_page_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlcondense.reporting.pages.tasks.MOST_ROWS", 2)
    leaderboard = shipped_leaderboard(tmp_path / "leaderboard")
    forge(leaderboard, lambda record: record["cell"].update(dataset=""), POLICY)
    page = Tags(next((site_of(leaderboard) / "tasks").glob("*/no-data.html")))
    assert "no data" in page.text


def test_every_reference_policy_that_is_missing_has_a_line(rich: Path) -> None:
    board = board_of(rich)
    policy = next(row for group in board.groups for row in group.rows if row.is_policy)
    trained = next(row for group in board.groups for row in group.rows if not row.is_policy)
    absent = [replace(policy, name=name, cells=("",), returns=None) for name in ("a", "b", "c")]
    group = replace(board.groups[0], rows=(trained, *absent))
    lines = Site(board, rich, data=False).lines_of([group])
    assert [line.row.name for line in lines] == [trained.name, "a", "b", "c"]


def test_a_task_of_many_rows_has_a_page_for_each_dataset(
    rich: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlcondense.reporting.pages.tasks.MOST_ROWS", 2)
    board = board_of(rich)
    build_site(board, rich, tmp_path / "site")
    task = next(group.task for group in board.groups if len(group.rows) > 2)
    name = f"tasks/{Site(board, rich, data=False).tasks[task]}.html"
    page = tmp_path / "site" / name
    own = sorted({group.dataset for group in board.groups if group.task == task})
    parts = [
        (page.parent / link).resolve()
        for _, link in Tags(page).values("href")
        if (page.parent / link).resolve().parent == page.with_suffix("")
    ]
    assert len(parts) == len(own)
    assert all(dataset in Tags(page).text for dataset in own)
    rows = [row for group in board.groups if group.task == task for row in group.rows]
    trained = {f"{row.cells[0]}.html" for row in rows if row.status == "done" and not row.is_policy}
    assert trained
    assert trained <= _records_of(parts)


def _records_of(pages: list[Path]) -> set[str]:
    """Return the names of the records that pages link to."""
    links = [link for page in pages for _, link in Tags(page).values("href")]
    return {Path(link).name for link in links if Path(link).parent.name == "records"}


def test_suites_that_are_hardly_begun_come_behind_the_others() -> None:
    cells = {"other": (9, 9), "signal": (1, 9), "light2024": (3, 9), "four-pairs": (9, 9)}
    suites = [SuitePart(name, "", planned, done, ()) for name, (done, planned) in cells.items()]
    names = [suite.name for suite in by_worth(suites)]
    assert names == ["light2024", "four-pairs", "signal", "other"]


def test_machines_read_rows_that_have_the_stated_form(site: Path, rich: Path) -> None:
    board = json.loads((site / "leaderboard.json").read_text())
    schema = json.loads((site / "leaderboard.schema.json").read_text())
    fastjsonschema.compile(schema)(board)
    row = next(r for r in board["rows"] if GRADMATCH in r["records"])
    assert row["heldout"]["mean"] == 0.85
    assert board["configs"][row["method_config"]]["iterations"] == 150
    assert all((site / view["page"]).is_file() for view in board["views"])
    assert board["views"][0]["title"] in (site / "llms.txt").read_text()


def test_the_log_tells_what_came_changed_and_is_gone(tmp_path: Path) -> None:
    leaderboard = shipped_leaderboard(tmp_path / "leaderboard")
    append_entry(leaderboard, date(2026, 1, 2), [GRADMATCH, "0" * 16], [])
    append_entry(leaderboard, date(2026, 1, 2), [RANDOM], [])
    append_entry(
        leaderboard,
        date(2026, 1, 3),
        [],
        [Change(GRADMATCH, 1.0, 0.85, ("0.1.0 aaaaaaa", "0.2.0 bbbbbbb"))],
    )
    site = site_of(leaderboard)
    text = Tags(site / "log.html").text
    for part in ("3 added, 1 withdrawn", "gradmatch on procgen/starpilot-easy-v0", "1.00 → 0.85"):
        assert part in text
    for part in ("1 record of that day withdrawn since", f"withdrawn: {'0' * 16}"):
        assert part in text
    history = "2026-01-02: added; 2026-01-03: replaced, held-out 1.00 → 0.85"
    history += " (rlcondense 0.1.0 aaaaaaa → 0.2.0 bbbbbbb)"
    assert history in Tags(site / "records" / f"{GRADMATCH}.html").text
    feed = ElementTree.parse(site / "feed.xml").getroot()
    titles = [entry.text for entry in feed.iter("{http://www.w3.org/2005/Atom}title")][1:]
    assert titles == ["2026-01-03: 1 changed", "2026-01-02: 3 added, 1 withdrawn"]
    assert f"Withdrawn: {'0' * 16}." in (site / "feed.xml").read_text()


def test_the_log_says_when_a_record_was_found_to_be_gone_and_when_it_is_back(
    tmp_path: Path,
) -> None:
    leaderboard = shipped_leaderboard(tmp_path / "leaderboard")
    build(leaderboard, ())
    assert not (leaderboard / LOG).exists()  # there is none where nothing was added
    append_entry(leaderboard, date(2026, 1, 2), [GRADMATCH, RANDOM], [])
    path = leaderboard / "results" / f"{GRADMATCH}.json"
    path.rename(tmp_path / path.name)
    build(leaderboard, ())
    gone = (leaderboard / LOG).read_bytes()
    assert read_log(leaderboard)[-1] == LogEntry(date.today().isoformat(), withdrawn=(GRADMATCH,))
    build(leaderboard, ())
    assert (leaderboard / LOG).read_bytes() == gone
    (tmp_path / path.name).rename(path)
    append_entry(leaderboard, date(2999, 1, 1), [], [])
    assert read_log(leaderboard)[-1] == LogEntry("2999-01-01", added=(GRADMATCH,))


def test_what_comes_back_on_the_day_was_not_withdrawn(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    day, path = date(2026, 1, 2), tmp_path / "results" / f"{RANDOM}.json"
    append_entry(tmp_path, date(2026, 1, 1), [RANDOM], [])
    append_entry(tmp_path, day, [], [])
    path.touch()
    append_entry(tmp_path, day, [RANDOM], [])
    assert read_log(tmp_path) == [LogEntry("2026-01-01", added=(RANDOM,))]


@pytest.mark.parametrize(
    "content",
    [
        "{", "{}", "[1]", '[{"date": "x", "added": [], "changed": []}]',
        '[{"date": "2026-01-02", "added": [], "changed": [], "withdrawn": [1]}]',
        '[{"date": "2026-01-02", "added": [], "changed": [], "withdrawn": ["<b>"]}]',
    ],
)  # fmt: skip
def test_a_malformed_log_or_rerun_is_ignored(tmp_path: Path, content: str) -> None:
    for name in (LOG, RERUNS):
        (tmp_path / name).write_text(content)
    assert read_log(tmp_path) == []
    assert read_reruns(tmp_path) == {}


@pytest.mark.parametrize("content", ["{", "[1]", '{"x": [1]}'])
def test_a_malformed_log_or_rerun_is_not_overwritten(tmp_path: Path, content: str) -> None:
    again = WrittenRerun("2026-01-02", True, "a CPU, Linux", False, "0" * 64)
    for name in (LOG, RERUNS):
        (tmp_path / name).write_text(content)
    with pytest.raises(CorruptArtifact, match=RERUNS):
        write_reruns(tmp_path, {GRADMATCH: again})
    with pytest.raises(CorruptArtifact, match=LOG):
        append_entry(tmp_path, date(2026, 1, 2), [GRADMATCH], [])
    assert [(tmp_path / name).read_text() for name in (LOG, RERUNS)] == [content] * 2


def test_the_first_page_has_the_findings_as_text(tmp_path: Path) -> None:
    board = shipped_leaderboard(tmp_path / "leaderboard")
    assert "Findings" not in Tags(site_of(board) / "index.html").text
    found = [{"text": "`pbc` <b>wins</b> on 2 & 3", "page": "docs/results/x.md"}]
    path = board / "conclusions.json"
    path.write_text(json.dumps([*found, {"text": 3, "page": "y"}, "more"]))
    page = site_of(board) / "index.html"
    assert "pbc <b>wins</b> on 2 & 3 docs/results/x.md" in Tags(page).text
    assert "<code>pbc</code> &lt;b&gt;wins" in page.read_text()
    assert "conclusions.json" not in look_beside(board)[1]
    path.write_text("{")
    assert "Findings" not in Tags(site_of(board) / "index.html").text


def test_a_record_says_who_ran_it_again(tmp_path: Path) -> None:
    leaderboard = shipped_leaderboard(tmp_path / "leaderboard")
    content = read_shipped(GRADMATCH)["content_sha256"]
    again = WrittenRerun("2026-01-02", True, "a CPU, Linux", False, content)
    replaced = WrittenRerun("2026-01-01", True, "a CPU, Linux", False, "0" * 64)
    write_reruns(leaderboard, {GRADMATCH: replaced, RANDOM: replaced})
    write_reruns(leaderboard, {GRADMATCH: again})
    write_reruns(leaderboard, {GRADMATCH: again})  # the same once more
    site = site_of(leaderboard)
    text = Tags(site / "records" / f"{GRADMATCH}.html").text
    assert text.count("2026-01-02: run again elsewhere (a CPU, Linux)") == 1
    assert "2026-01-01" not in text  # a rerun of an earlier record of the cell
    assert "self-reported" in Tags(site / "records" / f"{RANDOM}.html").text


@pytest.mark.parametrize("cell_id", [GRADMATCH, "23927861efa5cb7a", "e775f5a0c4c698a0"])
def test_the_command_of_a_record_asks_for_its_cell(cell_id: str) -> None:
    record = read_shipped(cell_id)
    cell = Cell.from_json(record["cell"])
    options = run.make_context("run", shlex.split(command_of(record))[2:]).params
    settings, learner_settings = split_settings(options["pairs"])
    task = make_task(options["task"])
    (name,) = options["method"]
    method, learner = make_pair(name, options["learner"], task, settings, learner_settings)
    assert (method_json(method), learner_json(learner)) == (cell.method, cell.learner)
    asked = (options["size"], options["seed"], options["seeds"], options["episodes"])
    episodes = cell.evaluation["environments"] * cell.evaluation["quota"]
    assert asked == (
        budget_size(cell.budget), cell.condensation_seed, len(cell.learner_seeds), episodes,
    )  # fmt: skip


def test_what_takes_files_of_ones_own_has_no_command() -> None:
    record = read_shipped(GRADMATCH)

    def command(**changed: Any) -> str:
        return command_of({**record, "cell": {**record["cell"], **changed}})

    for name in ("condensed:mine", "policies:mine"):
        assert command(method={"id": name, "config": {}}) == ""
    assert command(dataset="local/0123456789ab-v0") == ""


def test_the_command_for_data_of_heldout_levels_asks_for_them() -> None:
    record = read_shipped(GRADMATCH)
    assert "--heldout-data" not in command_of(record)
    found = finding_of("heldout-data", 0.5, 0, "half of the data").to_json()
    assert "--heldout-data" in shlex.split(command_of({**record, "findings": [found]}))


@pytest.mark.parametrize(
    ("paper", "links"),
    [
        ("https://arxiv.org/abs/1912.01588", ["https://arxiv.org/abs/1912.01588"]),
        ("arXiv:1912.01588", ["https://arxiv.org/abs/1912.01588"]),
        ("A 2024, arXiv:2407.20299, 2; B 2021, arXiv:2006.05929v3",
         ["https://arxiv.org/abs/2407.20299", "https://arxiv.org/abs/2006.05929v3"]),
        ("javascript:alert(1)", []),
        ("https://x.org/\" onclick=\"alert(1)", []),
        ("data:text/html,<script>", []),
        ("Pomerleau 1989", []),
        ("", []),
    ],
)  # fmt: skip
def test_papers_become_links_only_where_that_is_safe(paper: str, links: list[str]) -> None:
    parts = paper_parts(paper)
    assert "".join(text for text, _ in parts) == paper
    assert [link for _, link in parts if link] == links


def test_the_curve_over_size_has_no_rows_of_another_form() -> None:
    coded = [
        record("random", 9.0, seed=s, size=60, budget={"bytes": 1000, "bits": 4}) for s in range(3)
    ]
    whole = [
        record("random", 5.0 + size / 100, seed=s, size=size, budget={"size": size})
        for size in (15, 150)
        for s in range(3)
    ]
    full = [record("full", 8.0, labels=labels, budget=None) for labels in ("hard", "soft")]
    [group] = groups_of(coded + whole + full)
    curve, _ = tasks._figures(group, tasks._legend([group]))
    assert "15 transitions" in str(curve)
    assert "60 transitions" not in str(curve)
    assert "full, hard" in str(curve)
    assert "full, soft" in str(curve)


def test_correlations_of_several_records_are_a_range() -> None:
    several = [{"length": 0.25, "return": None}, {"length": 0.5, "return": None}]
    assert correlations_range(several) == "0.25 to 0.50 with length, - with return"


def test_what_a_method_was_allowed_follows_its_settings() -> None:
    assert tracks("gradmatch") == ("offline",)
    assert tracks("gradmatch", '{"theta": "expert"}') == ("offline", "expert")
    assert tracks("pbc", '{"policy": "offline-rl"}') == ("offline", "rewards")
    assert tracks("pbc", '{"of": "an older version"}') == tracks("pbc") == ("offline",)
    assert tracks("hades-r") == ("plays",)
