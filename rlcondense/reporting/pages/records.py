"""The page of a record."""

from __future__ import annotations

import gzip

import numpy as np

from rlcondense.comparison.rows import findings_of
from rlcondense.files import read_unpacked
from rlcondense.records.cell import Cell
from rlcondense.records.reading import RESULTS, record_path
from rlcondense.records.record import Record
from rlcondense.reporting.citation import cite_record
from rlcondense.reporting.commands import command_of
from rlcondense.reporting.pages.shared import Pages, Site
from rlcondense.types import SPLITS


def record_pages(site: Site, cell_id: str) -> Pages:
    """Return the page of a record, and its file if the site has data."""
    from rlcondense.reporting.distributions import every_return, histogram

    record = site.board.records[cell_id]
    cell = Cell.from_json(record["cell"])
    path = record_path(site.leaderboard / RESULTS, cell_id)
    of = SPLITS if record["status"] == "done" else ()
    returns = {split: np.asarray(record["returns"][split]) for split in of}
    yield site.page(
        "record.html",
        f"records/{cell_id}.html",
        id=cell_id,
        record=record,
        cell=cell,
        findings=findings_of([record]),
        said=[name for name in record.get("key", {}) if _is_told(name, record)],
        means={split: rows.mean(1) for split, rows in returns.items()},
        histogram=histogram(returns) if returns else None,
        every_return=every_return(returns) if returns else None,
        command=command_of(record) if returns else "",
        history=site.histories.get(cell_id, ()),
        reruns=[
            again
            for again in site.reruns.get(cell_id, ())
            if again.content_sha256 == record["content_sha256"]
        ],
        citation=cite_record(record),
        siblings=site.siblings.get(cell_id, ()),
        picture=site.pictures.get(cell.condensation_id) if site.pictures else None,
        file=path.name,
    )
    if site.data:
        raw = read_unpacked(path)
        yield f"records/{cell_id}.json.gz", gzip.compress(raw, 4, mtime=0)


def _is_told(name: str, record: Record) -> bool:
    """Return whether a part of a record's making is repeated in its environment."""
    return name.endswith(" version") or name in record.get("environment", {})
