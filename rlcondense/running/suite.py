"""Suites: the tasks, datasets, methods, sizes, learners and seeds to combine."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rlcondense.catalogue import data_root, find
from rlcondense.config import check_keys
from rlcondense.datasets.budget import Budget
from rlcondense.errors import BadConfig, UnknownName
from rlcondense.files import FileRefusal, read_bounded, slug
from rlcondense.limits import (
    LARGEST,
    MOST_LEARNER_SEEDS,
    MOST_SETS,
    check_evaluation,
    check_most,
    check_whole,
)
from rlcondense.protocol import protocol_of

MOST_NESTED = 16  # tables and lists within each other
MOST_SUITE_BYTES = 2**15  # TOML of one long dotted key takes time as its square
_OF_ALL = ("id", "config")  # the keys that learners take too
EXCLUDABLE = ("task", "dataset", "method", "learner", "size")


@dataclass(frozen=True)
class Choice:
    """A method or a learner as a suite names it.

    Attributes:
        id: its id.
        config: settings over its defaults.
        sizes: of a method, its budgets in transitions instead of the product's.
        percent: of a method, its budget as a percentage instead.
        unit: what `percent` counts.
        bytes: of a method, its budgets in bytes instead.
        bits: bits of a stored pixel or feature, with `bytes`.
        resolution: side of the stored frames, with `bytes`.
    """

    id: str
    config: Mapping[str, Any] = field(default_factory=dict)
    sizes: tuple[int, ...] | None = None
    percent: float | None = None
    unit: str | None = None
    bytes: tuple[int, ...] | None = None
    bits: int | None = None
    resolution: int | None = None

    @property
    def byte_budgets(self) -> list[Budget]:
        """Budgets in bytes."""
        bits = 8 if self.bits is None else self.bits
        return [
            Budget(bytes=most, bits=bits, resolution=self.resolution) for most in self.bytes or ()
        ]


@dataclass(frozen=True)
class Product:
    """A product of lists: its cells are all combinations.

    Attributes:
        tasks: ids or aliases.
        datasets: ids; or the last part of one, such as `mixed-v0`, for each task's own. Without
            any, each task's expert dataset.
        methods: with their settings.
        sizes: budgets in transitions, of methods that take one; by default each method's own.
        learners: with their settings.
        condensation_seeds: how many, from 0, of stochastic methods.
        learner_seeds: how many, from 0.
        episodes: of each policy on each split.
    """

    tasks: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    methods: tuple[Choice, ...] = ()
    sizes: tuple[int, ...] = ()
    learners: tuple[Choice, ...] = (Choice("bc"),)
    condensation_seeds: int = 1
    learner_seeds: int = 3
    episodes: int = 100


@dataclass(frozen=True)
class Suite:
    """A named set of cells.

    Attributes:
        name: of the file, without its ending.
        summary: one sentence.
        products: whose cells are the suite's.
        excludes: cells left out: those that match every key of one exclude.
        references: which reference rows are planned beside them: `all`, `policies` (none that is
            trained) or `none`; in a file true, "policies" or false.
        heldout_data: whether data of held-out levels are taken, which every table then states.
        sha256: of the file.
    """

    name: str
    summary: str
    products: tuple[Product, ...]
    excludes: tuple[Mapping[str, Any], ...] = ()
    references: Literal["all", "policies", "none"] = "all"
    heldout_data: bool = False
    sha256: str = ""

    def __post_init__(self) -> None:
        if self.references not in ("all", "policies", "none"):  # it was a truth value once
            raise BadConfig(f"references must be all, policies or none, not {self.references!r}")


def suites_folder() -> Path:
    """Return the folder of the shipped suites."""
    return data_root() / "registry" / "suites"


def list_suites() -> list[str]:
    """Return the names of all shipped suites."""
    return shipped_suites()


def shipped_suites() -> list[str]:
    """Return the names of the shipped suites, sorted."""
    return sorted(path.stem for path in suites_folder().glob("*.toml"))


def load_suite(name: str | Path) -> Suite:
    """Load a shipped suite by its name, or another one by its file, which ends in .toml.

    Raises:
        UnknownName: there is no shipped suite of that name.
        BadConfig: the file cannot be read, or does not describe a suite.
    """
    name = str(name)
    if name.endswith(".toml"):
        path = Path(name)
        if path.stem in shipped_suites():
            raise BadConfig(f"{path} has the name of a shipped suite; choose another")
    elif name in shipped_suites():
        path = suites_folder() / f"{name}.toml"
    else:
        advice = "a suite of your own is named by its file, NAME.toml"
        raise UnknownName("suite", name, shipped_suites(), advice)
    slug(path.stem)  # checked here, because manifests are named after it
    try:
        content = read_bounded(path, MOST_SUITE_BYTES, follow=True)
        values = tomllib.loads(content.decode())
    except FileRefusal as error:
        raise BadConfig(f"cannot read suite {path}: it {error}") from error
    except RecursionError:
        raise BadConfig(f"cannot read suite {path}: it is nested too deeply") from None
    except ValueError as error:
        raise BadConfig(f"suite {path} is no TOML: {error}") from error
    return suite_from(path.stem, values, hashlib.sha256(content).hexdigest())


def suite_from(name: str, values: Mapping[str, Any], sha256: str = "") -> Suite:
    """Make a suite from the values of its file.

    The top level is a product. Each of `cells` is another one, which takes the keys that it lacks
    from the top level.

    Args:
        name: of the suite.
        values: of the file.
        sha256: of the file.

    Raises:
        BadConfig: a key is unknown, or a value of the wrong type.
    """
    where = f"suite {name!r}"
    _check_plain(values, where)
    of_products = [f.name for f in fields(Product)]
    known = ["summary", "references", "heldout_data", "cells", "exclude", *of_products]
    check_keys(values, known, where)
    top = {key: value for key, value in values.items() if key in of_products}
    parts = values.get("cells", [])
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise BadConfig(f"cells of {where} must be tables, each under [[cells]]")
    products = [_product(top, where)] if "methods" in top else []
    for part in parts:
        check_keys(part, of_products, f"cells of {where}")
        products.append(_product({**top, **part}, f"cells of {where}"))
    for product in products:
        if not product.tasks or not product.learners:
            what = "learners" if product.tasks else "tasks"
            raise BadConfig(f"{where} names no {what}")
    if not any(product.methods for product in products):
        raise BadConfig(f"{where} names no methods")
    check_most(f"cells of {where}", sum(map(_most_cells, products)), "cells of a suite")
    excludes = values.get("exclude", [])
    if not isinstance(excludes, list) or not all(isinstance(e, dict) and e for e in excludes):
        raise BadConfig(f"exclude of {where} must be tables, each under [[exclude]]")
    for exclude in excludes:
        check_keys(exclude, EXCLUDABLE, f"exclude of {where}")
    summary = values.get("summary", "")
    if not isinstance(summary, str):
        raise BadConfig(f"summary of {where} must be a text, not {summary!r}")
    heldout_data = values.get("heldout_data", False)
    if not isinstance(heldout_data, bool):
        raise BadConfig(f"heldout_data of {where} must be true or false, not {heldout_data!r}")
    return Suite(
        name, summary, tuple(products), tuple(excludes),
        references=_references(values.get("references", True), where),
        heldout_data=heldout_data, sha256=sha256,
    )  # fmt: skip


def _check_plain(values: Mapping[str, Any], where: str) -> None:
    """Refuse what is nested too deeply, and whole numbers that JSON cannot hold exactly."""
    level: list[Any] = [values]
    for _ in range(MOST_NESTED):
        inner = [v for one in level for v in (one.values() if isinstance(one, dict) else one)]
        for value in inner:
            if isinstance(value, int) and not isinstance(value, bool):
                check_whole(value, f"a number of {where}", least=-LARGEST)
        level = [value for value in inner if isinstance(value, dict | list)]
        if not level:
            return
    raise BadConfig(f"{where} is nested too deeply")


def _references(value: Any, where: str) -> Literal["all", "policies", "none"]:
    if value == "policies":
        return "policies"
    if not isinstance(value, bool):
        raise BadConfig(
            f"references of {where} must be true, false or 'policies', which leaves out those that "
            f"are trained, not {value!r}"
        )
    return "all" if value else "none"


def _product(values: Mapping[str, Any], where: str) -> Product:
    readers: dict[str, Callable[[Any, str], Any]] = {
        "tasks": _texts,
        "datasets": _texts,
        "methods": _choices,
        "sizes": _counts,
        "learners": _choices,
        "condensation_seeds": partial(_count, most=MOST_SETS),
        "learner_seeds": partial(_count, most=MOST_LEARNER_SEEDS),
        "episodes": _count,
    }
    product = Product(
        **{key: readers[key](value, f"{key} of {where}") for key, value in values.items()}
    )
    environments = protocol_of(product.episodes).environments
    check_evaluation(product.learner_seeds, environments, product.episodes)
    return product


def _most_cells(product: Product) -> int:
    """Count the method cells of a product, before excludes and missing parts are left out."""
    budgets = sum(
        1
        if choice.percent is not None
        else len(choice.bytes or choice.sizes or product.sizes or (1,))
        for choice in product.methods
    )
    places = len(product.tasks) * max(1, len(product.datasets)) * len(product.learners)
    return places * budgets * product.condensation_seeds


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise BadConfig(f"{where} must be a list, not {value!r}")
    check_most(f"names in {where}", len(value), "names in a list")
    doubled = [item for i, item in enumerate(value) if item in value[:i]]
    if doubled:
        raise BadConfig(f"{where} name {doubled[0]!r} twice")
    return value


def _texts(value: Any, where: str) -> tuple[str, ...]:
    for item in _list(value, where):
        if not isinstance(item, str):
            raise BadConfig(f"{where} must be texts, not {item!r}")
    return tuple(value)


def _count(value: Any, where: str, most: int = LARGEST) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BadConfig(f"{where} must be a whole number above 0, not {value!r}")
    check_whole(value, where, least=1, most=most)
    return value


def _counts(value: Any, where: str) -> tuple[int, ...]:
    return tuple(_count(item, where) for item in _list(value, where))


def _choices(value: Any, where: str) -> tuple[Choice, ...]:
    return tuple(_choice(item, where) for item in _list(value, where))


def _choice(value: Any, where: str) -> Choice:
    if isinstance(value, str):
        return Choice(value)
    if not isinstance(value, dict) or not isinstance(value.get("id"), str):
        raise BadConfig(f"{where} must each be an id, or a table with an id, not {value!r}")
    known = [f.name for f in fields(Choice) if where.startswith("methods") or f.name in _OF_ALL]
    check_keys(value, known, f"{value['id']!r} in {where}")
    if not isinstance(value.get("config", {}), dict):
        raise BadConfig(f"config of {value['id']!r} in {where} must be a table")
    if len({"sizes", "percent", "bytes"} & value.keys()) > 1:
        raise BadConfig(f"{value['id']!r} in {where}: give one of sizes, percent and bytes")
    if {"bits", "resolution"} & value.keys() and "bytes" not in value:
        raise BadConfig(f"{value['id']!r} in {where}: bits and resolution go with bytes")
    if "unit" in value and "percent" not in value:
        raise BadConfig(f"{value['id']!r} in {where}: a unit goes with a percentage")
    percent = value.get("percent", 100.0)
    if isinstance(percent, bool) or not isinstance(percent, (int, float)):
        raise BadConfig(f"percent of {value['id']!r} in {where} must be a number, not {percent!r}")
    lists = {k: _counts(value[k], where) for k in ("sizes", "bytes") if k in value}
    if empty := [name for name, values in lists.items() if not values]:
        raise BadConfig(f"{empty[0]} of {value['id']!r} in {where} are none: leave the key out")
    numbers = {k: _count(value[k], where) for k in ("bits", "resolution") if k in value}
    return Choice(**{**value, **lists, **numbers})


def resolved(exclude: Mapping[str, Any]) -> dict[str, Any]:
    """Return an exclude of a suite with ids in place of names."""
    out = dict(exclude)
    for key in ("task", "dataset", "method", "learner"):
        if key in out:
            try:
                out[key] = find(f"{key}s", str(out[key])).id
            except UnknownName:
                continue
    return out
