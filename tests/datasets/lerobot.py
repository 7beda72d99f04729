"""Folders of LeRobot's third layout, made for tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def vector_column(values: np.ndarray) -> Any:
    """A column of vectors, as LeRobot writes them."""
    import pyarrow as pa

    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def write_lerobot(
    root: Path,
    columns: Mapping[str, Any],
    lengths: Sequence[int],
    features: Mapping[str, Any] | None = None,
) -> Path:
    """Write columns beside those that every such folder has; the episodes lie in two files."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    places = np.concatenate([np.arange(length) for length in lengths])
    rows = len(places)
    usual = {
        "timestamp": (places / 10).astype(np.float32),
        "frame_index": places,
        "episode_index": np.repeat(np.arange(len(lengths)), lengths),
        "index": np.arange(rows),
        "task_index": np.zeros(rows, np.int64),
        "next.reward": np.ones(rows, np.float32),
        "next.done": np.append(places[1:] == 0, False),
    }
    table = pa.table({**usual, **columns})
    (root / "data" / "chunk-000").mkdir(parents=True)
    first = sum(lengths[:2])
    for number, part in enumerate((table[:first], table[first:])):
        pq.write_table(part, root / "data" / "chunk-000" / f"file-{number:03d}.parquet")
    (root / "meta" / "episodes" / "chunk-000").mkdir(parents=True)
    pq.write_table(
        pa.table({"episode_index": np.arange(len(lengths)), "length": list(lengths)}),
        root / "meta" / "episodes" / "chunk-000" / "file-000.parquet",
    )
    info = {
        "codebase_version": "v3.0",
        "total_episodes": len(lengths),
        "total_frames": rows,
        "fps": 10,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "features": dict(features or {}),
    }
    (root / "meta" / "info.json").write_text(json.dumps(info))
    return root
