"""Export of datasets and condensed sets to folders that others read without this package."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlcondense import __version__, catalogue
from rlcondense.citations import PACKAGE, bibtex
from rlcondense.datasets import hub
from rlcondense.datasets.condensed import CondensedDataset, load_condensed
from rlcondense.datasets.detectors import is_elsewhere
from rlcondense.datasets.episodes import episode_of
from rlcondense.datasets.examples import example_of
from rlcondense.datasets.exported import DATA, OTHER_ARRAYS, PARQUET, is_condensed
from rlcondense.datasets.minari import (
    FAULTY,
    LOSSY,
    is_local,
    marks_of,
    write_minari_folder,
)
from rlcondense.datasets.parquet import require_pyarrow, write_parquet
from rlcondense.datasets.report import REPORT, CondensationReport
from rlcondense.datasets.sources import TASK
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.datasets.writers import (
    dataset_columns,
    formats_name,
    write_hdf5,
    write_npz,
)
from rlcondense.errors import BadConfig, RLCondenseError, UnknownName
from rlcondense.files import (
    lock,
    make_folder,
    new_folder,
    write_arrays,
    write_bytes,
    write_json,
)
from rlcondense.make import agreed_task, environment_of, load_dataset, task_of_dataset
from rlcondense.runtime.progress import Progress, silent
from rlcondense.tasks.base import Task
from rlcondense.text import markdown_text, one_line
from rlcondense.types import Array
from rlcondense.validation import (
    check_actions,
    check_fit,
    check_rows,
    hides_heldout,
    with_known_levels,
)

FORMATS = ("npz", "hdf5", "minari", "parquet")
README, EXAMPLE = "README.md", "example.py"
UNKNOWN_LICENCE = "unknown"
MARKS = {LOSSY: "that frames were stored as JPEG", FAULTY: "which episodes have an injected fault"}
CODES_LOST = "rows that are stored as codes of few bits are written as the values that codes show"


@dataclass(frozen=True)
class Exported:
    """Data to be exported.

    Attributes:
        name: name of the data.
        columns: arrays by formats' names.
        rows: number of transitions.
        report: content of the report.
        facts: what the card says, by label.
        losses: a line for each thing that the format does not hold.
        task: the task of the data.
        dataset: the dataset, if it is one; a condensed set otherwise.
    """

    name: str
    columns: Mapping[str, Array]
    rows: int
    report: Mapping[str, Any]
    facts: Mapping[str, Any]
    losses: tuple[str, ...]
    task: Task
    dataset: TransitionDataset | None


def export(
    source: str | Path | TransitionDataset | CondensedDataset,
    to: str,
    out: str | Path,
    *,
    task: str | Task | None = None,
    licence: str | None = None,
    push: str | None = None,
    progress: Progress = silent,
) -> list[str]:
    """Export a dataset or a condensed set to a folder, completely or not at all.

    Args:
        source: a dataset's id or path, the folder of a condensed set, or either as an object.
        to: format, one of `FORMATS`.
        out: the folder, which is new or empty.
        task: task of the data, where they do not say.
        licence: licence of the data, as the Hub names it; by default that of the package for data
            that it ships.
        push: `hf:OWNER/NAME`, a dataset of the Hugging Face Hub that gets the folder's files, too.
        progress: receives the rows or columns written.

    Returns:
        A line for each thing that the format does not hold; none if a reader gets all values back.

    Raises:
        BadConfig: the format is unknown, does not hold such data, or the folder is not empty.
        MissingExtra: the format's library, or that of the Hub, is not installed.
        RLCondenseError: the folder cannot be written, or the Hub refuses it; the folder is written
            then.

    Example:
        >>> export("classic/cartpole/expert-v0", "npz", "exported")
        []
    """
    if to not in FORMATS:
        raise UnknownName("format", to, FORMATS)
    if to == "parquet":
        require_pyarrow()
    if push is not None:
        hub.check_target(push)
        hub.require_library()
    out = new_folder(Path(out))
    data = _exported(source, task, to, progress)
    if to == "minari" and data.dataset is None:
        raise BadConfig(
            "a condensed set has rows and no whole episodes, which Minari's format consists of: "
            "export it as npz, hdf5 or parquet"
        )
    building = out.with_name(f".{out.name}.exporting")
    if building.is_symlink():
        raise BadConfig(f"{building} is a link, and what is exported would go where it leads")
    make_folder(out.parent)
    with lock(out.with_name(f".{out.name}.lock")):
        _write(building, out, to, data, licence, progress)
    if push is not None:
        hub.push(out, push)
    return list(data.losses)


def _write(
    building: Path, out: Path, to: str, data: Exported, licence: str | None, progress: Progress
) -> None:
    """Write what is exported to a folder, and give it its name."""
    new_folder(out)  # while this one waited, another one may have finished
    shutil.rmtree(building, ignore_errors=True)
    try:
        building.mkdir()
        _WRITERS[to](building, data, progress)
        write_json(building / REPORT, data.report)
        num_actions = _num_actions(data.task)
        labels = str(data.report.get("label_kind", "soft"))
        example = example_of(to, data.columns, num_actions, labels)
        write_bytes(building / EXAMPLE, example.encode())
        write_bytes(building / README, _card(data, to, licence or _licence(data)).encode())
        if out.exists():
            out.rmdir()
        building.replace(out)
    except OSError as error:
        raise RLCondenseError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _num_actions(task: Task) -> int | None:
    """Return the number of a task's discrete actions; None for continuous ones."""
    return int(task.action_space.n) if hasattr(task.action_space, "n") else None


def _exported(
    source: str | Path | TransitionDataset | CondensedDataset,
    task: str | Task | None,
    to: str,
    progress: Progress,
) -> Exported:
    if isinstance(source, (str, Path)):
        path = Path(source)
        if is_condensed(path):
            return _of_condensed(load_condensed(path), path.resolve().name, task)
        name = task if isinstance(task, str) else task.id if task else None
        source = load_dataset(str(source), task=name, heldout_data=True, progress=progress)
    if isinstance(source, CondensedDataset):
        return _of_condensed(source, "condensed", task)
    return _of_dataset(source, task, to)


def _of_dataset(data: TransitionDataset, task: str | Task | None, to: str) -> Exported:
    the_task = agreed_task(task_of_dataset(data), task, f"dataset {data.id!r}")
    check_fit(data.columns(), the_task, f"dataset {data.id!r}")
    check_actions(data.actions, the_task.action_space, f"dataset {data.id!r}")
    data = with_known_levels(data, the_task)
    columns, losses = dataset_columns(data)
    if hides_heldout(data, the_task):
        losses.append("the files do not say that the data are of held-out levels")
    where = "" if data.task else data.origin.environment
    if is_elsewhere(where, the_task):
        losses.append(f"the files do not say that the data were collected on {where}")
    if the_task.observation_space.dtype != data.observations.dtype:
        losses.append(
            f"observations are {data.observations.dtype}: readers take what fits the task's "
            f"{the_task.observation_space.dtype}, and refuse the rest"
        )
    if to != "minari":
        losses += [f"the format does not say {MARKS[name]}" for name in marks_of(data)]
    returns = data.episode_returns()
    report = {
        "id": data.id,
        TASK: the_task.id,
        "episodes": len(data.episodes),
        "transitions": len(data),
        "returns": {
            "mean": float(returns.mean()),
            "least": float(returns.min()),
            "most": float(returns.max()),
        },
        "sha256": data.sha256,
        "losses": losses,
    }
    facts = {
        "task": the_task.id,
        "episodes": len(data.episodes),
        "transitions": len(data),
        "return of an episode": "mean {mean:.2f}, {least:.2f} to {most:.2f}".format(
            **report["returns"]  # type: ignore[arg-type]
        ),
        "sha256": data.sha256,
    }
    name = data.id or "dataset"
    return Exported(
        name, columns, len(data), report, facts, tuple(losses), the_task, replace(data, id=name)
    )


def _of_condensed(data: CondensedDataset, name: str, task: str | Task | None) -> Exported:
    report = data.report
    the_task = agreed_task(report.task if report else "", task, "the condensed set")
    check_rows(data.arrays(), the_task, f"condensed set {name!r}")
    facts: dict[str, Any] = {"task": the_task.id}
    if report is not None:
        settings = ", ".join(f"{key}={value}" for key, value in report.config.items())
        budget = ", ".join(f"{key} {value}" for key, value in report.budget.items())
        facts |= {
            "method": report.method,
            "settings": settings,
            "condensation seed": report.seed,
            "budget": budget,
            "condensed from": report.dataset or "the environment, without data",
        }
        if (mean := _source_return(report)) is not None:
            facts["mean return of an episode condensed from"] = f"{mean:.2f}"
    facts |= {"transitions": len(data), "labels": data.label_kind, "sha256": data.sha256}
    columns = {formats_name(key): array for key, array in data.arrays().items()}
    content = {TASK: the_task.id, **data.report_json()}
    losses = () if data.coded is None else (CODES_LOST,)
    return Exported(name, columns, len(data), content, facts, losses, the_task, None)


def _source_return(report: CondensationReport) -> float | None:
    """Return the mean return of the episodes that a set was condensed from, if it is known here."""
    source = report.dataset or ""
    entry = catalogue.entries("datasets").get(source)
    facts = entry.facts if entry is not None else {}
    if facts.get("sha256") == report.dataset_sha256 and "returns" in facts:
        return float(facts["returns"]["mean"])
    if not source or not is_local(catalogue.base_of(source)):
        return None
    try:
        data = load_dataset(source, heldout_data=True)
    except RLCondenseError:  # what is there now is another one, or damaged
        return None
    same = data.sha256 == report.dataset_sha256
    return float(data.episode_returns().mean()) if same else None


def _write_npz(folder: Path, data: Exported, progress: Progress) -> None:
    write_npz(folder / f"{DATA}.npz", data.columns, progress)


def _write_hdf5(folder: Path, data: Exported, progress: Progress) -> None:
    write_hdf5(folder / f"{DATA}.hdf5", data.columns, progress)


def _write_minari(folder: Path, data: Exported, progress: Progress) -> None:
    assert data.dataset is not None
    id_ = data.name if re.search(r"-v[0-9]+$", data.name) else f"{data.name}-v0"
    metadata = {
        "author": "rlcondense",
        "description": f"{data.name}, exported by rlcondense",
        "code_permalink": "https://pypi.org/project/rlcondense/",
        "requirements": [f"rlcondense=={__version__}"],
        **marks_of(data.dataset),
    }
    episodes = (episode_of(data.dataset, i) for i in range(len(data.dataset.episodes)))
    with contextlib.closing(environment_of(data.task)) as env:
        write_minari_folder(folder, id_, episodes, metadata, env)


def _write_parquet(folder: Path, data: Exported, progress: Progress) -> None:
    in_rows = {
        name: array
        for name, array in data.columns.items()
        if len(array) == data.rows and "." not in name
    }
    write_parquet(folder / PARQUET, in_rows, progress)
    others = {name: array for name, array in data.columns.items() if name not in in_rows}
    if others:
        write_arrays(folder / OTHER_ARRAYS, others)


_WRITERS: Mapping[str, Callable[[Path, Exported, Progress], None]] = {
    "npz": _write_npz,
    "hdf5": _write_hdf5,
    "minari": _write_minari,
    "parquet": _write_parquet,
}


def _licence(data: Exported) -> str:
    """Return the licence of data that the package ships, or were condensed from such."""
    source = data.name if data.dataset is not None else data.report.get("dataset")
    entry = catalogue.entries("datasets").get(str(source))
    return "mit" if entry is not None and entry.is_built_in else UNKNOWN_LICENCE


def _paper(data: Exported) -> str:
    """Return the paper of the method that condensed the data."""
    entry = catalogue.entries("methods").get(str(data.report.get("method")))
    return entry.paper if entry is not None else ""


def _cell(value: Any) -> str:
    """Return a value as a cell of a Markdown table, literally."""
    return markdown_text(one_line(str(value)))


def _card(data: Exported, form: str, licence: str) -> str:
    """Return the dataset card: front matter as the Hub reads it, facts, columns, use, citation."""
    kind = "dataset" if data.dataset is not None else "condensed set"
    tags = ["reinforcement-learning", "rlcondense", data.report.get("method", "offline-rl")]
    front = [
        f"license: {json.dumps(licence)}",
        f"pretty_name: {json.dumps(data.name)}",
        "task_categories:\n- reinforcement-learning",
        "tags:\n" + "\n".join(f"- {json.dumps(tag)}" for tag in tags),
    ]
    if form == "parquet":
        front.append(f"configs:\n- config_name: default\n  data_files: {DATA}/*.parquet")
    columns = [
        f"| `{name}` | {array.dtype} | {' x '.join(map(str, array.shape))} |"
        for name, array in data.columns.items()
    ]
    facts = [f"| {name} | {_cell(value)} |" for name, value in data.facts.items()]
    paper = _paper(data)
    return "\n".join(
        [
            "---", *front, "---", "", f"# {data.name}", "",
            f"A {kind} for reinforcement learning, exported by rlcondense {__version__}.", "",
            "| | |", "|---|---|", *facts,
            f"| licence | {_cell(licence)} |", "",
            "| column | type | shape |", "|---|---|---|", *columns, "",
            *(f"Not as in the source: {loss}." for loss in data.losses),
            f"`python {EXAMPLE}` trains a network on it. `{REPORT}` says how it was made.", "",
            "## Citation", "",
            *([f"The method: {paper}.", ""] if paper else []),
            textwrap.indent("\n\n".join([PACKAGE, *bibtex(paper)]), "    "), "",
        ]
    )  # fmt: skip
