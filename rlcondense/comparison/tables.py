"""Tables of records for people: a method beside its reference rows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rlcondense.catalogue import LOCAL, base_of
from rlcondense.comparison.columns import SIZE_ALONE, bracketed, columns_of
from rlcondense.comparison.rows import (
    NOBODY,
    VERDICTS,
    Group,
    Row,
    explanations,
    findings_of,
    groups_of,
    names_of,
    row_of,
)
from rlcondense.datasets.report import CorrelationsJson, FindingJson
from rlcondense.findings import PROVENANCE, finding_name
from rlcondense.records.cell import budget_text, episodes_of
from rlcondense.records.record import Record
from rlcondense.references import BY_ID, EXPERT, FLOOR, WHOLE
from rlcondense.statistics.intervals import crossed_interval, kendall_tau, student_means
from rlcondense.types import SPLITS

MARKS = (
    "!: does not clear the random policy, the marginal policy (or the constant one, where students",
    "act greedily and it returns more) and the random subset of its size and labels. ?: one set:",
    "not judged; so too with one learner seed, and where a row or any spread is missing.",
)


def run_table(records: Sequence[Record], references: Sequence[Record]) -> str:
    """Format the table that `rlcondense run` prints.

    Args:
        records: of one method or several, one for each condensation seed.
        references: of the reference rows.
    """
    groups = groups_of([*records, *references])
    own: dict[int, tuple[Row, list[Record]]] = {}
    for record in records:
        row = row_of(groups, record)
        own.setdefault(id(row), (row, []))[1].append(record)
    if not references and all(row.status != "done" for row, _ in own.values()):
        return "\n".join(_undone(_first_undone(of_row) or of_row[0]) for _, of_row in own.values())
    rows = _around([row for row, _ in own.values()], groups)
    undone = dict.fromkeys(_undone(r) for r in (*records, *references) if r["status"] != "done")
    notes = _notes(own.values(), rows)
    text = [_caption(records), "", _rows_text(rows), "", *notes, *undone]
    for row, of_row in own.values():
        text += _finished(of_row) if row.status != "done" else []
    return "\n".join(text)


def _around(own: Sequence[Row], groups: Sequence[Group]) -> list[Row]:
    """Return the rows of a run, each once; rows of other learners get the learner's name."""
    main = next(group for group in groups if any(row is own[0] for row in group.rows))
    rows = list(main.rows)
    place = sum(row.id in (EXPERT, *WHOLE) for row in rows)
    for group in groups:
        if group is not main:
            _, learner = names_of([main.learner, group.learner])
            trained = [row for row in group.rows if not row.is_policy]
            rows[place:place] = [replace(row, name=f"{row.name}, {learner}") for row in trained]
    return rows


def _finished(records: Sequence[Record]) -> list[str]:
    """Return a line for each finished set of a row whose other sets are not done."""
    out = []
    for record in records:
        if record["status"] == "done":
            seen, heldout = (np.mean(record["returns"][split]) for split in SPLITS)
            seed, name = record["cell"]["condensation_seed"], record["cell"]["method"]["id"]
            out.append(f"{name}, seed {seed}: returns {seen:.2f} seen, {heldout:.2f} held-out.")
    return out


def _first_undone(records: Sequence[Record]) -> Record | None:
    return next((record for record in records if record["status"] != "done"), None)


def _undone(record: Record) -> str:
    """Return one line on a cell that has no numbers."""
    cell = record["cell"]
    learner = f" with {cell['learner']['id']}" if cell["learner"] else ""
    return f"{cell['method']['id']}{learner}: {record['status']} ({record['reason']})"


def transfer_table(
    rows: Mapping[str, Mapping[str, Sequence[Record]]],
    policies: Sequence[Record],
    learners: Sequence[str],
) -> str:
    """Format the matrix that `rlcondense transfer` prints.

    Args:
        rows: by method, then by learner, the records of its condensation seeds.
        policies: of the reference policies.
        learners: the columns.
    """
    from tabulate import tabulate

    trained = [r for row in rows.values() for records in row.values() for r in records]
    groups = groups_of([*trained, *policies])
    table = [
        [name, _sizes(row), *(_transfer_cell(row[learner], groups) for learner in learners)]
        for name, row in rows.items()
    ]
    for record in policies:  # they are the same for all learners
        same = [_mean_and_interval([record])] * len(learners)
        table.append([record["cell"]["method"]["id"], "", *same])
    text = tabulate(table, ["", "size", *learners], disable_numparse=True)
    first = policies[0]["cell"]
    episodes = episodes_of(first["evaluation"])
    lines = [
        f"{first['task']}, {first['dataset']}, {len(first['learner_seeds'])} learner seeds x "
        f"{episodes} episodes, held-out levels",
        "",
        text,
        "",
        "Mean return with its 95% interval (Student's t, over sets and students).",
        *MARKS,
        *dict.fromkeys(_undone(r) for r in (*trained, *policies) if r["status"] != "done"),
        *filter(None, dict.fromkeys(_labels_not_taken(r) for r in trained)),
        *dict.fromkeys(
            line
            for name, row in rows.items()
            for records in row.values()
            for line in findings_text(name, records)
        ),
        *_agreement(rows, learners),
    ]
    return "\n".join(lines)


def suite_table(records: Sequence[Record]) -> str:
    """Format the tables at the end of `rlcondense sweep`: one per task, dataset and learner.

    Args:
        records: of the suite's cells, in any order and of any status.
    """
    groups = groups_of(records)
    parts = [*(_group_text(group) for group in groups), *faults_table(records)]
    if not parts:
        return "no cell has a record yet"
    notes = [
        "Mean return ± standard error over sets and students; recovery and gain as in the table of",
        "`rlcondense run`, on held-out levels, with 95% intervals that hold for these levels.",
        *MARKS,
    ]
    notes += explanations(row for group in groups for row in group.rows)
    return "\n\n".join([*parts, "\n".join(notes)])


def _group_text(group: Group) -> str:
    undone = dict.fromkeys(
        f"{row.id} with {group.learner['id']}: {row.status} ({row.reason})"
        for row in group.rows
        if row.status != "done"
    )
    return "\n".join([group_caption(group), "", _rows_text(group.rows), *undone])


def _rows_text(rows: Sequence[Row]) -> str:
    from tabulate import tabulate

    first, *others = columns_of("terminal")
    columns = [first, SIZE_ALONE, *others]
    headers = ["", *(column.header for column in columns[1:])]
    table = [[column.cell(row) for column in columns] for row in rows]
    align = ("left", *["right"] * len(columns[1:]))
    return str(tabulate(table, headers, disable_numparse=True, colalign=align))


def group_caption(group: Group) -> str:
    """Return a line on the settings that all rows of a group share."""
    learner = group.learner
    settings = {k: v for k, v in learner["config"].items() if v is not None or k == "batch_size"}
    shown = (
        "network", "width", "depth", "activation", "loss", "updates", "batch_size", "learning_rate"
    )  # fmt: skip
    config = ", ".join(f"{k} {settings[k]}" for k in shown if k in settings)
    actions = f", actions: {group.action_selection}" if group.action_selection else ""
    return (
        f"{group.task}, {group.dataset}, learner {learner['id']} ({config}), "
        f"{group.learner_seeds} learner seeds x {group.episodes} episodes a split{actions}"
    )


def _sizes(row: Mapping[str, Sequence[Record]]) -> str:
    sizes = {r["report"]["size"] for records in row.values() for r in records if "report" in r}
    return ", ".join(map(str, sorted(sizes)))


def _labels_not_taken(record: Record) -> str:
    """Return a note if the learner ignored soft labels that the data had, else nothing."""
    if record.get("labels", "soft") == "soft" or record["report"]["label_kind"] != "soft":
        return ""
    learner = record["cell"]["learner"] or NOBODY
    if learner["config"].get("loss") == "nll":
        return f"{learner['id']} by loss=nll takes no soft labels: it learned the actions taken."
    return f"{learner['id']} takes no soft labels: it learned the actions taken."


def _transfer_cell(records: Sequence[Record], groups: Sequence[Group]) -> str:
    return f"{_mean_and_interval(records)} {row_of(groups, records[0]).mark}".rstrip()


def _mean_and_interval(records: Sequence[Record]) -> str:
    if failed := _first_undone(records):
        return str(failed["status"])
    return bracketed(crossed_interval(student_means(records, "heldout")))


def _agreement(
    rows: Mapping[str, Mapping[str, Sequence[Record]]], learners: Sequence[str]
) -> list[str]:
    """Return lines on how much the learners agree in their order of the rows."""
    from tabulate import tabulate

    if len(learners) < 2:
        return []
    taus = agreement(rows, learners)
    table = [
        [a, *(_tau(taus.get(a, {}).get(b)) if i > j else "" for j, b in enumerate(learners[:-1]))]
        for i, a in enumerate(learners)
        if i
    ]
    lines = [
        "Do learners order the rows alike? Kendall's tau-b (rows that both trained); - where those",
        "are fewer than three, or all equal to one of the two.",
    ]
    return ["", *lines, "", tabulate(table, ["", *learners[:-1]], disable_numparse=True)]


def _tau(tau: Mapping[str, Any] | None) -> str:
    return "-" if tau is None else f"{tau['tau']:.2f} ({tau['rows']})"


def agreement(
    rows: Mapping[str, Mapping[str, Sequence[Record]]], learners: Sequence[str]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Compute Kendall's tau-b between learners, of the rows' held-out returns.

    Returns:
        For a later learner and an earlier one `{"tau", "rows"}`; pairs without three rows that
        both trained are left out.
    """
    out: dict[str, dict[str, dict[str, Any]]] = {}
    for j, b in enumerate(learners):
        for a in learners[j + 1 :]:
            both = [row for row in rows.values() if not _first_undone([*row[a], *row[b]])]
            scores = (
                [float(student_means(row[learner], "heldout").mean()) for row in both]
                for learner in (a, b)
            )
            if (tau := kendall_tau(*scores)) is not None:
                out.setdefault(a, {})[b] = {"tau": tau[0], "rows": tau[1]}
    return out


def _caption(records: Sequence[Record]) -> str:
    cell = records[0]["cell"]
    evaluation, learner = cell["evaluation"], cell["learner"]
    selections = [r["action_selection"] for r in records if "action_selection" in r]
    episodes = episodes_of(evaluation)
    taught = ""
    if learner is not None:
        network = learner["config"].get("network")
        taught = f"learner {learner['id']}" + (f" ({network})" if network else "") + ", "
    return (
        f"{cell['task']}, {_data_name(cell['dataset'])}{_provenance(records)}, {taught}"
        f"{len(cell['learner_seeds'])} learner seeds x {episodes} episodes a split, "
        f"actions: {selections[0] if selections else 'none'}"
    )


def _data_name(dataset: str) -> str:
    """Return the name of a table's data, with the id under which `dataset list` has them."""
    base = base_of(dataset)
    beside_expert = dataset.startswith(LOCAL) and base != dataset
    return f"{dataset} (data {base})" if beside_expert else dataset or "no dataset"


def _provenance(records: Sequence[Record]) -> str:
    """Return a suffix for titles on the origin of the data, such as ` (another task)`."""
    names = [finding_name(f["name"]) for f in findings_of(records) if f["name"] in PROVENANCE]
    return f" ({', '.join(names)})" if names else ""


def _notes(own: Collection[tuple[Row, Sequence[Record]]], rows: Sequence[Row]) -> list[str]:
    """Return the lines below the table of a run.

    Args:
        own: the methods' rows, each with its records.
        rows: all rows.
    """
    notes = [
        "Mean return ± standard error over sets and students. Recovery = (R - random policy) /",
        "(expert - random policy) and gain = R - random subset, on held-out levels, with 95%",
        "intervals (Student's t) that hold for these levels;",
        f"`-`: {_why_no_recovery(rows)}.",
        *MARKS,
    ]
    done = [(row, records[0]) for row, records in own if row.status == "done"]
    if not done:
        return notes
    notes += filter(None, dict.fromkeys(_labels_not_taken(r) for _, r in done if "report" in r))
    if any(row.conditional for row, _ in done):
        notes.append("One condensation seed: the intervals are conditional on this condensed data.")
    for row, _ in done:
        notes += judgement(row)
    notes += [_finding_line(row.name, finding) for row in rows for finding in row.findings]
    for row, record in done:
        notes += [f"{row.name}: {line}" if len(own) > 1 else line for line in _report_lines(record)]
    return notes


def _why_no_recovery(rows: Sequence[Row]) -> str:
    """Return where, or why, a row of a run has no recovery."""
    names = {row.id for row in rows}
    if EXPERT in names:
        return "where no expert stands apart from the random policy"
    if FLOOR in names and len(names) > 1:
        return "as no expert is known: --expert names one"
    return "without reference rows"


def _report_lines(record: Record) -> Iterator[str]:
    """Yield lines on the figures of a condensation's report."""
    report = record.get("report", {})
    if steps := report.get("cost", {}).get("environment_steps"):
        yield f"Condensation took {steps:,} environment steps."
    if correlation := report.get("score_correlation"):
        yield f"Rank correlation of the episodes' scores: {correlations_text(correlation)}."
    if "fault_auroc" in report:
        yield (
            f"A clean episode scores above a faulty one {report['fault_auroc']:.0%} of the time "
            "(50%: the score is blind to the fault)."
        )
    if moved := report.get("displacement"):
        loss = report.get("matching_loss")
        matched = f"; matching loss {loss['before']:.4g} -> {loss['after']:.4g}" if loss else ""
        yield (
            f"Observations moved by {moved['mean']:.3g} on average (frames: in grey levels), at "
            f"most {moved['largest']:.3g}{matched}."
        )


def faults_table(records: Sequence[Record]) -> list[str]:
    """Format what scores see of injected faults; nothing where no data have any.

    A line a dataset, method, budget and learner of a task: how often a clean episode scores above a
    faulty one, how scores rank with length and return, and the held-out return of students of what
    is kept; means over condensation seeds.
    """
    from tabulate import tabulate

    scored = [
        record
        for record in records
        if record["status"] == "done" and "fault_auroc" in record.get("report", {})
    ]
    if not scored:
        return []
    cells = [record["cell"] for record in scored]
    methods = names_of([cell["method"] for cell in cells])
    learners = names_of([cell["learner"] or NOBODY for cell in cells])
    rows: dict[tuple[Any, ...], list[list[float]]] = {}
    sizes: dict[tuple[Any, ...], int] = {}
    for record, method, learner in zip(scored, methods, learners, strict=True):
        report, cell = record["report"], record["cell"]
        ranks: Mapping[Any, float | None] = report.get("score_correlation") or {}
        values = [report["fault_auroc"], ranks.get("length"), ranks.get("return")]
        values.append(float(np.mean(record["returns"]["heldout"])))
        kept = budget_text(cell["budget"]) if cell["budget"] is not None else ""
        place = (cell["task"], cell["dataset"], method, kept, learner)
        rows.setdefault(place, []).append([np.nan if v is None else v for v in values])
        sizes[place] = min(report["size"], sizes.get(place, report["size"]))
    lines = [
        [*place[1:], *np.mean(rows[place], axis=0)]
        for place in sorted(rows, key=lambda place: (*place[:3], sizes[place], *place[3:]))
    ]
    header = ["dataset", "method", "budget", "learner"]
    header += ["AUROC", "with length", "with return", "held-out"]
    return [
        "Scores and injected faults: AUROC is how often a clean episode scores above a faulty one\n"
        "(0.5: blind); rank correlation of scores with length and return; return of what is kept.",
        str(tabulate(lines, header, floatfmt=".2f")),
    ]


def correlations_text(correlation: CorrelationsJson) -> str:
    """Format rank correlations, such as `0.93 with length, - with return`."""
    return correlations_range([correlation])


def correlations_range(correlations: Sequence[CorrelationsJson]) -> str:
    """Format the least and the largest of several, such as `0.91 to 0.93 with length`."""
    parts = []
    for name in correlations[0]:
        known = [value for one in correlations if (value := one.get(name)) is not None]
        ends = dict.fromkeys(f"{end(known):.2f}" for end in (min, max) if known)
        parts.append(f"{' to '.join(ends) or '-'} with {name}")
    return ", ".join(parts)


def findings_text(name: str, row: Sequence[Record]) -> list[str]:
    """Return a line for each finding of a row, with its figure.

    Args:
        name: of the row.
        row: records, one for each condensation seed.
    """
    return [_finding_line(name, finding) for finding in findings_of(row)]


def _finding_line(name: str, finding: FindingJson) -> str:
    return f"! {name}: {finding_name(finding['name'])}: {finding['text']}."


def judgement(row: Row) -> list[str]:
    """Return lines on a row's verdicts against the floors that it should clear."""
    verdicts = row.verdicts
    ids = {a.floor: a.id for a in row.against}

    def floors(*wanted: str) -> str:
        return _listed([ids.get(f) or f for f, verdict in verdicts.items() if verdict in wanted])

    if row.unjudged and verdicts:
        return [f"? {row.name}: {row.unjudged} against the {floors(*VERDICTS)}."]
    out = []
    if failed := floors("level", "below"):
        out.append(f"! {row.name} does not clear the {failed} on held-out levels.")
    if unknown := floors("unknown"):
        out.append(f"? {row.name} is not judged against the {unknown}: no row of it, or no spread.")
    if not out and (cleared := floors("above")):
        out.append(f"{row.name} clears the {cleared} on held-out levels.")
    return out


def _listed(names: Sequence[str]) -> str:
    phrases = [BY_ID[name].phrase for name in names]
    assert all(phrases), names
    return " and the ".join(filter(None, [", the ".join(phrases[:-1]), *phrases[-1:]]))
