"""The papers' settings: the catalogue, the docstrings and the page about them say the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from rlcondense import catalogue
from rlcondense.config import make_config
from rlcondense.errors import BadConfig
from rlcondense.make import make_method

PAGE = (Path(__file__).parents[2] / "docs" / "results" / "paper-settings.md").read_text()
ENTRIES = {
    id_: entry
    for id_, entry in catalogue.entries("methods").items()
    if entry.paper and not entry.paper.startswith("after ")
}


def in_docstring(cls: type[Any]) -> dict[str, str]:
    """The settings after `Paper:`, which go on to the end of a class's docstring."""
    found = re.search(r"\n\s+Paper: (.*)", cls.__doc__ or "", re.DOTALL)
    pairs = re.split(r",\s+", found[1].strip()) if found else []
    return dict(pair.split("=") for pair in pairs)


@pytest.mark.parametrize("id_", ENTRIES)
def test_the_preset_is_what_the_docstring_says(id_: str) -> None:
    cls, preset = ENTRIES[id_].load(), ENTRIES[id_].facts["presets"]["paper"]
    said = in_docstring(cls)
    assert said.keys() == preset.keys()
    assert make_config(cls.Config, said, id_) == make_config(cls.Config, preset, id_)


@pytest.mark.parametrize("id_", ENTRIES)
def test_the_preset_can_be_set_and_other_settings_go_over_it(id_: str) -> None:
    preset = ENTRIES[id_].facts["presets"]["paper"]
    config = make_method(id_, preset="paper").config
    for name, value in preset.items():
        assert getattr(config, name) == (None if value == "none" else value)
    if "iterations" in preset:
        assert make_method(id_, preset="paper", iterations=7).config.iterations == 7


@pytest.mark.parametrize("preset", [["paper"], {"a": 1}, 7])
def test_a_preset_that_is_no_name_is_refused(preset: Any) -> None:
    with pytest.raises(BadConfig, match="has no preset"):
        make_method("gradmatch", preset=preset)


def test_a_method_draws_at_random_if_a_teacher_labels_views_that_it_draws() -> None:
    for name in ("top-return", "percentile", "full"):
        settings: dict[str, Any] = {"fraction": 1} if name == "percentile" else {}
        taught = {**settings, "labels": "taught"}
        assert not make_method(name, **taught).stochastic
        assert make_method(name, **taught, label_views=2).stochastic


@pytest.mark.parametrize("id_", ENTRIES)
def test_the_page_has_every_method_and_names_every_setting(id_: str) -> None:
    sections = [part for part in PAGE.split("\n## ") if f"`{id_}`" in part.split("\n\n")[0]]
    [section] = (
        sections
        or [part for part in PAGE.split("\n## ") if f"\n| `{id_}`" in part]
        or [
            part
            for part in PAGE.split("\n## ")
            if f"`{id_}`" in part and part.startswith("Selections")
        ]
    )
    for name in ENTRIES[id_].facts["presets"]["paper"]:
        assert f"`{name}`" in section, name


def written(value: Any) -> str:
    """A value as the page writes it, whatever its zeros: .03 and 0.03, 2048 and 2,048."""
    text = str(value).lower().replace(",", "")
    try:
        return f"{float(text):g}"
    except ValueError:
        return text


def rows_of_page(id_: str) -> list[tuple[list[str], str]]:
    """The settings that rows of the page's tables are about, and what they say of the preset."""
    rows = []
    for section in PAGE.split("\n## "):
        if f"`{id_}`" not in section.partition("\n")[0]:
            continue
        for table in re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE):
            head, _, *lines = [
                [cell.strip() for cell in line.strip("|").split("|")]
                for line in table.strip().split("\n")
            ]
            column = next((i for i, name in enumerate(head) if name in ("preset", "`paper`")), None)
            if column is not None:
                rows += [(re.findall(r"`(\w+)`", line[0]), line[column]) for line in lines]
    return rows


@pytest.mark.parametrize("id_", ENTRIES)
def test_the_page_says_of_a_preset_what_is_in_it(id_: str) -> None:
    preset = ENTRIES[id_].facts["presets"]["paper"]
    for names, said in rows_of_page(id_):
        known = [name for name in names if name in preset]
        words = {written(word) for word in re.split(r",\s+|\s+and\s+|\s+", said.replace("`", ""))}
        if said and "same" not in words:
            for name in known:
                assert written(preset[name]) in words, (name, preset[name], said)


def test_most_settings_of_presets_are_in_tables_of_the_page() -> None:
    named = {(id_, name) for id_ in ENTRIES for names, _ in rows_of_page(id_) for name in names}
    settings = {(id_, name) for id_, e in ENTRIES.items() for name in e.facts["presets"]["paper"]}
    assert len(named & settings) >= len(settings) / 2
