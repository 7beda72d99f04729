"""Dataset cards: a summary of a dataset's statistics, and a contact sheet of its frames."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rlcondense.catalogue import base_of
from rlcondense.datasets.minari import is_local, minari_facts
from rlcondense.datasets.sources import folder_of
from rlcondense.datasets.summary import bars
from rlcondense.datasets.transitions import TransitionDataset
from rlcondense.errors import BadConfig
from rlcondense.files import write_bytes

BINS = 12
BLOCK = 1_000_000  # rows of one block of a sum
MOST_ACTIONS = 1000  # most actions whose counts are listed one by one
SHEET = 10  # frames of a row and of a column


def card_of(data: TransitionDataset) -> dict[str, Any]:
    """Compute the statistics of a dataset as plain values.

    Returns:
        Among others `returns` with quantiles and a histogram (`counts` between `edges`), `actions`
        with counts of discrete actions or mean and standard deviation of each dimension,
        `information` with the information of an observation about the action (see
        `information_of`), `levels` with the number of level seeds, `lossy` for frames that were
        stored as JPEG, and the facts in Minari's metadata.
    """
    returns = data.episode_returns()
    lengths = np.array([len(rows) for rows in data.episodes])
    counts, edges = _histogram(returns)
    levels = None if data.level_seeds is None else len(np.unique(data.level_seeds))
    base = base_of(data.id)
    folder = folder_of(base)
    return {
        "id": data.id,
        "task": data.task or None,
        "episodes": len(returns),
        "transitions": len(data),
        "bytes": sum(column.nbytes for column in data.columns().values()),
        "observations": f"{data.observations.dtype} {data.observations.shape[1:]}",
        "columns": list(data.columns()),
        "lengths": {
            "mean": float(lengths.mean()),
            "min": int(lengths.min()),
            "max": int(lengths.max()),
        },
        "returns": {
            "mean": float(returns.mean()),
            "quantiles": np.quantile(returns, [0, 0.25, 0.5, 0.75, 1]).tolist(),
            "counts": counts.tolist(),
            "edges": edges.tolist(),
        },
        "actions": _actions(data.actions),
        "information": None if data.action_probs is None else information_of(data.action_probs),
        "levels": levels,
        "lossy": data.origin.lossy,
        "minari": minari_facts(base, folder) if folder or (base and is_local(base)) else {},
        "sha256": data.sha256,
    }


def _histogram(returns: npt.NDArray[np.float64]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the number of returns in each bin, and the bins' edges."""
    try:
        return np.histogram(returns, BINS)
    except ValueError:  # so close together that floats do not separate the bins
        return np.array([len(returns)]), np.array([returns.min(), returns.max()])


def information_of(action_probs: npt.NDArray[Any]) -> float:
    """Mutual information of observation and action, in nats.

    It is the mean Kullback-Leibler divergence of a policy's action distribution in a row from its
    average distribution, and hence the gap between a perfect imitator and the marginal policy.
    Where it is near zero, students that sample actions can learn little beyond the frequencies of
    actions.

    Args:
        action_probs: `(N, A)` distributions.
    """
    p = np.asarray(action_probs, np.float64)
    log = np.log(np.maximum(p, 1e-12))
    mean = np.log(np.maximum(p.mean(0), 1e-12))
    return float((p * (log - mean)).sum(1).mean())


def _actions(actions: npt.NDArray[Any]) -> dict[str, Any]:
    if actions.ndim == 1:
        values, counts = np.unique(actions, return_counts=True)
        low = min(0, int(values[0]))
        if int(values[-1]) - low >= MOST_ACTIONS:
            return {"kinds": len(values), "lowest": int(values[0]), "highest": int(values[-1])}
        histogram = np.zeros(int(values[-1]) - low + 1, np.int64)
        histogram[values - low] = counts
        return {"first": low, "counts": histogram.tolist()}
    # In blocks and in float64: a naive sum of a million float32 numbers loses digits.
    parts = range(0, len(actions), BLOCK)
    mean = sum(actions[i : i + BLOCK].sum(0, dtype=np.float64) for i in parts) / len(actions)
    variance = sum(((actions[i : i + BLOCK] - mean) ** 2).sum(0) for i in parts) / len(actions)
    return {"mean": mean.tolist(), "std": np.sqrt(variance).tolist()}


def write_card(card: dict[str, Any]) -> str:
    """Return a card as text for a terminal."""
    returns, actions = card["returns"], card["actions"]
    low, quarter, median, three_quarters, high = returns["quantiles"]
    lines = {
        "dataset": card["id"],
        "task": card["task"],
        "size": f"{card['episodes']} episodes, {card['transitions']:,} transitions, "
        f"{card['bytes'] / 1e6:,.1f} MB of {card['observations']}",
        "episode length": f"mean {card['lengths']['mean']:.0f}, "
        f"{card['lengths']['min']} to {card['lengths']['max']}",
        "returns": f"mean {returns['mean']:.2f}, quartiles {quarter:.2f} {median:.2f} "
        f"{three_quarters:.2f}",
        "": f"{low:.2f} {bars(returns['counts'])} {high:.2f}",
        "actions": _write_actions(actions),
        "looks": None
        if card["information"] is None
        else f"an observation tells {card['information']:.3f} nats of the action",
        "teaches": _write_students(card.get("students", {})),
        "frames": "stored as JPEG, which is lossy: they are not exact" if card["lossy"] else None,
        "levels": card["levels"],
        "columns": ", ".join(card["columns"]),
        **{key.replace("_", " "): value for key, value in card["minari"].items()},
        "sha256": card["sha256"],
    }
    return "\n".join(
        f"{name:<16} {value}" for name, value in lines.items() if value not in (None, "")
    )


def _write_students(summaries: Mapping[str, Any]) -> str | None:
    """Return a line on students of all the data beside the policy that does not look."""
    students, marginal = summaries.get("full-converged"), summaries.get("marginal-policy")
    if students is None or marginal is None:
        return None
    return "; ".join(
        f"{name}: students of all of it {_mean(students[split])}, "
        f"the marginal policy {_mean(marginal[split])}"
        for split, name in (("seen", "seen levels"), ("heldout", "held-out levels"))
    )


def _mean(summary: Mapping[str, Any]) -> str:
    error = summary["standard_error"]
    return f"{summary['mean']:.2f}" + (f" ± {error:.2f}" if error is not None else "")


def _write_actions(actions: dict[str, Any]) -> str:
    if "counts" in actions:
        last = actions["first"] + len(actions["counts"]) - 1
        return f"{actions['first']} {bars(actions['counts'])} {last}"
    if "kinds" in actions:
        return f"{actions['kinds']} of {actions['lowest']} to {actions['highest']}"
    mean = np.ravel(actions["mean"])
    more = f" and {len(mean) - BINS} more" if len(mean) > BINS else ""
    return "mean " + " ".join(f"{value:.2f}" for value in mean[:BINS]) + more


def contact_sheet(data: TransitionDataset, path: Path) -> None:
    """Write a hundred frames, evenly spaced over the data, as one PNG.

    Raises:
        BadConfig: the observations are no pictures.
    """
    shape = data.observations.shape[1:]
    if not (data.observations.dtype == np.uint8 and len(shape) == 3 and shape[0] in (1, 3)):
        raise BadConfig(f"dataset {data.id!r} has no frames to show, but {shape} observations")
    from imageio import v3 as imageio

    rows = np.linspace(0, len(data) - 1, SHEET**2).astype(np.int64)
    frames = np.asarray(data.observations[rows])
    channels, height, width = shape
    grid = frames.reshape(SHEET, SHEET, channels, height, width).transpose(0, 3, 1, 4, 2)
    sheet = grid.reshape(SHEET * height, SHEET * width, channels)
    content = io.BytesIO()
    imageio.imwrite(content, sheet.squeeze(), extension=".png")
    write_bytes(path, content.getvalue())
