"""Tables of records for people: a method beside its reference rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rlcondense.methods.detectors import PROVENANCE
from rlcondense.references import WHOLE
from rlcondense.reporting.rows import (
    BLIND,
    POLICIES,
    SPLITS,
    Group,
    Row,
    explanations,
    finding_name,
    findings_of,
    found_mark,
    groups_of,
)
from rlcondense.reporting.statistics import (
    Interval,
    difference,
    rank_correlation,
    recovery,
    student_interval,
    unit_means,
)

Record = dict[str, Any]
ORDER = ("expert", *WHOLE, "method", "random", *BLIND, "random-policy")
MUST_CLEAR = ("random-policy", *BLIND, "random")


def run_table(records: Sequence[Record], references: Sequence[Record]) -> str:
    """The table that `rlcondense run` prints.

    Args:
        records: of the method, one for each condensation seed.
        references: of the rows it stands beside.
    """
    from tabulate import tabulate

    if failed := _first_undone(records):
        return _undone(failed)
    everything = group_rows(records, references)
    found = {name: _first_undone(row) for name, row in everything.items()}
    undone = {name: record for name, record in found.items() if record is not None}
    rows = {name: row for name, row in everything.items() if name not in undone}
    own = "method" if "method" in rows else records[0]["cell"]["method"]["id"]
    table = [
        _table_row(name, rows) if name in rows else [name, "", *[undone[name]["status"]] * 2]
        for name in ORDER
        if name in everything
    ]
    headers = ["", "size", "seen", "held-out", "recovery", "gain"]
    text = tabulate(table, headers, disable_numparse=True, colalign=("left", *["right"] * 5))
    said = [_undone(record) for record in undone.values()]
    return "\n".join([_caption(records), "", text, "", *_notes(rows, rows[own]), *said])


def _first_undone(records: Sequence[Record]) -> Record | None:
    return next((record for record in records if record["status"] != "done"), None)


def _undone(record: Record) -> str:
    """One line on a cell that has no numbers."""
    cell = record["cell"]
    learner = f" with {cell['learner']['id']}" if cell["learner"] else ""
    return f"{cell['method']['id']}{learner}: {record['status']} ({record['reason']})"


def transfer_table(
    rows: Mapping[str, Mapping[str, Sequence[Record]]],
    policies: Sequence[Record],
    learners: Sequence[str],
) -> str:
    """The matrix that `rlcondense transfer` prints.

    Args:
        rows: by method, then by learner, the records of its condensation seeds.
        policies: of the reference policies.
        learners: the columns.
    """
    from tabulate import tabulate

    blind = [p for p in policies if p["cell"]["method"]["id"] in BLIND]
    table = [
        [name, _sizes(row), *(_transfer_cell(row[learner], blind) for learner in learners)]
        for name, row in rows.items()
    ]
    for record in policies:  # the same whoever learns
        same = [_mean_and_interval([record])] * len(learners)
        table.append([record["cell"]["method"]["id"], "", *same])
    text = tabulate(table, ["", "size", *learners], disable_numparse=True)
    first = policies[0]["cell"]
    episodes = first["evaluation"]["environments"] * first["evaluation"]["quota"]
    undone = [r for row in rows.values() for records in row.values() for r in records]
    lines = [
        f"{first['task']}, {first['dataset']}, {len(first['learner_seeds'])} learner seeds x "
        f"{episodes} episodes, held-out levels",
        "",
        text,
        "",
        "Mean return with its 95% interval (Student's t, over condensation seeds, or over",
        "learner seeds where a row has one condensation seed). !: does not clear the marginal",
        "policy, or, acting greedily, the constant policy.",
        *filter(None, dict.fromkeys(_undone(r) for r in undone if r["status"] != "done")),
        *filter(None, dict.fromkeys(_labels_not_taken(r) for r in undone)),
        *dict.fromkeys(
            line for row in rows.values() for found in row.values() for line in findings_text(found)
        ),
        *_agreement(rows, learners),
    ]
    return "\n".join(lines)


def suite_table(records: Sequence[Record]) -> str:
    """The tables that `rlcondense sweep` ends with: one for each task, dataset and learner.

    Args:
        records: of the suite's cells, in any order and of any status.
    """
    groups = groups_of(records)
    parts = [_group_text(group) for group in groups]
    if not parts:
        return "no cell has a record yet"
    said = [
        "Mean return ± standard error over condensation seeds, or over learner seeds where a row",
        "has one condensation seed; recovery and gain as `rlcondense run` has them, on held-out",
        "levels, with 95% intervals. !: does not clear the random policy, the marginal policy and",
        "the random subset of its size. ?: cannot be told, for want of a row or of seeds.",
    ]
    said += explanations(row for group in groups for row in group.rows)
    return "\n\n".join([*parts, "\n".join(said)])


def _group_text(group: Group) -> str:
    from tabulate import tabulate

    headers = ["", "size", "seen", "held-out", "recovery", "gain"]
    table = [_text_row(row) for row in group.rows]
    text = tabulate(table, headers, disable_numparse=True, colalign=("left", *["right"] * 5))
    undone = dict.fromkeys(
        f"{row.id} with {group.learner['id']}: {row.status} ({row.reason})"
        for row in group.rows
        if row.status != "done"
    )
    return "\n".join([group_caption(group), "", text, *undone])


def group_caption(group: Group) -> str:
    """What all rows of a group have in common, in a line."""
    learner = group.learner
    given = {k: v for k, v in learner["config"].items() if v is not None or k == "batch_size"}
    shown = (
        "network", "width", "depth", "activation", "loss", "updates", "batch_size", "learning_rate"
    )  # fmt: skip
    config = ", ".join(f"{k} {given[k]}" for k in shown if k in given)
    actions = f", actions: {group.action_selection}" if group.action_selection else ""
    return (
        f"{group.task}, {group.dataset}, learner {learner['id']} ({config}), "
        f"{group.learner_seeds} learner seeds x {group.episodes} episodes a split{actions}"
    )


def _text_row(row: Row) -> list[str]:
    size = "" if row.size is None else str(row.size)
    if row.returns is None:
        return [row.name, size, row.status, row.status]
    name = f"{row.name} {row.marks}".rstrip()
    returns = [plus_minus(row.returns[split]["mean"]) for split in SPLITS]
    return [name, size, *returns, recovery_text(row), bracketed(row.gain, "{:+.2f}")]


def plus_minus(interval: Interval) -> str:
    """An estimate and its standard error, if it is known."""
    if not interval.known:
        return f"{interval.estimate:.2f}"
    return f"{interval.estimate:.2f} ± {interval.standard_error:.2f}"


def bracketed(interval: Interval | None, form: str = "{:.2f}") -> str:
    """An estimate and its 95% interval, if there is one."""
    return "" if interval is None else _number(interval.estimate, form) + _bounds(interval, form)


def recovery_text(row: Row) -> str:
    """The recovery of a row; 100% and 0% are the expert's and the random policy's own."""
    if row.id in ("expert", "random-policy"):
        return {"expert": "100%", "random-policy": "0%"}[row.id]
    return bracketed(row.recovery, "{:.0%}") or "-"


def _sizes(row: Mapping[str, Sequence[Record]]) -> str:
    found = {r["report"]["size"] for records in row.values() for r in records if "report" in r}
    return ", ".join(map(str, sorted(found)))


def _labels_not_taken(record: Record) -> str:
    """What is to be said of a learner that took no soft labels though there were some."""
    if record.get("labels", "soft") == "soft" or record["report"]["label_kind"] != "soft":
        return ""
    return f"{record['cell']['learner']['id']} takes no soft labels: it learned the actions taken."


def _transfer_cell(records: Sequence[Record], blind: Sequence[Record]) -> str:
    if failed := _first_undone(records):
        return str(failed["status"])
    greedy = records[0]["action_selection"] == "greedy"
    clears = all(
        difference(records, [policy], "heldout").above_zero
        for policy in blind
        if greedy or policy["cell"]["method"]["id"] != "constant-policy"
    )
    return _mean_and_interval(records) + ("" if clears else " !")


def _mean_and_interval(records: Sequence[Record]) -> str:
    interval = student_interval(unit_means(records, "heldout"))
    return f"{interval.estimate:.2f}" + _bounds(interval, "{:.2f}")


def _agreement(
    rows: Mapping[str, Mapping[str, Sequence[Record]]], learners: Sequence[str]
) -> list[str]:
    """How alike learners order the rows."""
    from tabulate import tabulate

    if len(learners) < 2:
        return []
    found = agreement(rows, learners)
    table = [
        [a, *(_tau(found.get(a, {}).get(b)) if i > j else "" for j, b in enumerate(learners[:-1]))]
        for i, a in enumerate(learners)
        if i
    ]
    said = [
        "Do learners order the rows alike? Kendall's tau-b (rows that both trained); - where those",
        "are fewer than three, or all equal to one of the two.",
    ]
    return ["", *said, "", tabulate(table, ["", *learners[:-1]], disable_numparse=True)]


def _tau(found: Mapping[str, Any] | None) -> str:
    return "-" if found is None else f"{found['tau']:.2f} ({found['rows']})"


def agreement(
    rows: Mapping[str, Mapping[str, Sequence[Record]]], learners: Sequence[str]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Kendall's tau-b between learners, of the rows' held-out returns.

    Returns:
        For a later learner and an earlier one `{"tau", "rows"}`; pairs without three rows that
        both trained are left out.
    """
    out: dict[str, dict[str, dict[str, Any]]] = {}
    for j, b in enumerate(learners):
        for a in learners[j + 1 :]:
            both = [row for row in rows.values() if not _first_undone([*row[a], *row[b]])]
            scores = (
                [float(unit_means(row[learner], "heldout").mean()) for row in both]
                for learner in (a, b)
            )
            if (tau := rank_correlation(*scores)) is not None:
                out.setdefault(a, {})[b] = {"tau": tau[0], "rows": tau[1]}
    return out


def group_rows(records: Sequence[Record], references: Sequence[Record]) -> dict[str, list[Record]]:
    """Records by row: `method`, and the reference rows by the name of theirs."""
    rows: dict[str, list[Record]] = {"method": list(records)}
    for record in references:
        rows.setdefault(record["cell"]["method"]["id"], []).append(record)
    own = records[0]["cell"]["method"]["id"]
    if own in ORDER:
        rows[own] = rows.pop("method")
    return rows


def _table_row(name: str, rows: dict[str, list[Record]]) -> list[str]:
    row = rows[name]
    method = row[0]["cell"]["method"]["id"]
    size = str(row[0]["report"]["size"]) if "report" in row[0] else ""
    returns = [plus_minus(student_interval(unit_means(row, split))) for split in SPLITS]
    marked = f"{method} {found_mark(findings_of(row))}".rstrip()
    return [marked, size, *returns, _recovery(name, rows), _gain(name, rows)]


def _recovery(name: str, rows: dict[str, list[Record]]) -> str:
    if "expert" not in rows or "random-policy" not in rows:
        return "-"
    if name in ("expert", "random-policy"):
        return {"expert": "100%", "random-policy": "0%"}[name]
    share = recovery(rows[name], rows["random-policy"], rows["expert"], "heldout")
    if share is None:
        return "-"
    return f"{share.estimate:.0%}" + _bounds(share, "{:.0%}")


def _gain(name: str, rows: dict[str, list[Record]]) -> str:
    if "random" not in rows or name in ("random", *WHOLE, *POLICIES):
        return ""
    gain = difference(rows[name], rows["random"], "heldout")
    return f"{gain.estimate:+.2f}" + _bounds(gain, "{:+.2f}")


def _bounds(interval: Interval, form: str) -> str:
    if not interval.known:
        return ""
    return f" [{_number(interval.low, form)}, {_number(interval.high, form)}]"


def _number(value: float, form: str) -> str:
    """A number as shown, nothing being below zero that is shown as zero."""
    text = form.format(value)
    return text if any(digit in text for digit in "123456789") else text.replace("-", "")


def _caption(records: Sequence[Record]) -> str:
    cell = records[0]["cell"]
    evaluation, learner = cell["evaluation"], cell["learner"]
    episodes = evaluation["environments"] * evaluation["quota"]
    taught = ""
    if learner is not None:
        network = learner["config"].get("network")
        taught = f"learner {learner['id']}" + (f" ({network})" if network else "") + ", "
    return (
        f"{cell['task']}, {cell['dataset'] or 'no dataset'}{_provenance(records)}, {taught}"
        f"{len(cell['learner_seeds'])} learner seeds x {episodes} episodes a split, "
        f"actions: {records[0]['action_selection']}"
    )


def _provenance(records: Sequence[Record]) -> str:
    """What a title says of where data come from, such as ` (another task)`."""
    found = [finding_name(f["name"]) for f in findings_of(records) if f["name"] in PROVENANCE]
    return f" ({', '.join(found)})" if found else ""


def _notes(rows: dict[str, list[Record]], main: list[Record]) -> list[str]:
    notes = [
        "Mean return ± standard error over condensation seeds, or over learner seeds where a row",
        "has one condensation seed. Recovery = (R - random policy) / (expert - random policy) and",
        "gain = R - random subset, on held-out levels, with 95% intervals (Student's t); - where",
        "no expert stands apart from the random policy.",
    ]
    notes += filter(None, [_labels_not_taken(main[0])] if "report" in main[0] else [])
    if len(main) == 1 and "report" in main[0]:
        notes.append("One condensation seed: the intervals are conditional on this condensed data.")
    notes += _verdict(rows, main)
    notes += [line for row in rows.values() for line in findings_text(row)]
    report = main[0].get("report", {})
    if steps := report.get("cost", {}).get("environment_steps"):
        notes.append(f"Condensation took {steps:,} environment steps.")
    if report.get("displacement"):
        moved, loss = report["displacement"], report.get("matching_loss")
        matched = f"; matching loss {loss['before']:.4g} -> {loss['after']:.4g}" if loss else ""
        notes.append(
            f"Observations moved by {moved['mean']:.3g} on average (frames: in grey levels), at "
            f"most {moved['largest']:.3g}{matched}."
        )
    return notes


def findings_text(row: Sequence[Record]) -> list[str]:
    """A line for each thing that detectors found in a row, with its figure.

    Args:
        row: records, one for each condensation seed.
    """
    method = row[0]["cell"]["method"]["id"]
    return [f"! {method}: {finding_name(f['name'])}: {f['text']}." for f in findings_of(row)]


def _verdict(rows: dict[str, list[Record]], main: list[Record]) -> list[str]:
    """Which floors the main row clears: those whose paired difference lies above zero."""
    name = main[0]["cell"]["method"]["id"]
    floors = [other for other in MUST_CLEAR if other in rows and rows[other] is not main]
    failed = [other for other in floors if not difference(main, rows[other], "heldout").above_zero]
    if failed:
        return [f"! {name} does not clear the {_listed(failed)} on held-out levels."]
    return [f"{name} clears the {_listed(floors)} on held-out levels."] if floors else []


def _listed(names: Sequence[str]) -> str:
    said = ["random subset" if n == "random" else n.replace("-", " ") for n in names]
    return " and the ".join(filter(None, [", the ".join(said[:-1]), said[-1]]))
