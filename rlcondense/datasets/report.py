"""Report of a condensation, as stored in `report.json`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    TypedDict,
    final,
    get_args,
    get_origin,
    get_type_hints,
)

from rlcondense.findings import Finding
from rlcondense.json_schema import (
    KEYS,
    POSITIVE,
    Count,
    Id,
    Number,
    Rule,
    Setting,
    Sha256,
    Text,
    one_of,
    schema_of,
)
from rlcondense.limits import LARGEST, check_whole
from rlcondense.text import one_line

if TYPE_CHECKING:
    from rlcondense.records.record import SecondsJson

ARRAYS, REPORT = "condensed.safetensors", "report.json"

MOST_POINTS = 100  # most points of a reported curve

UNITS = ("transitions", "episodes")
LABEL_KINDS = ("hard", "soft", "continuous")

_PARTS = ("cost", "displacement", "matching_loss", "findings")  # fields that are dataclasses

# Fields left out when empty.
_LATER = ("curve", "fault_auroc", "initialisation_bytes", "score_correlation", "task")

_Correlation = Annotated[Number, Rule(minimum=-1, maximum=1)]
CorrelationsJson = Mapping[
    Literal["length", "return"], Annotated[_Correlation | None, "null where either is constant"]
]


def shown_curve(points: Sequence[Sequence[float]]) -> dict[str, list[float]]:
    """Return `steps`, `best` and `mean` of evenly spaced points, `MOST_POINTS` at most.

    Args:
        points: steps so far, best and mean return, for each generation or student.
    """
    last, most = len(points) - 1, min(len(points), MOST_POINTS)
    shown = [round(i * last / max(1, most - 1)) for i in range(most)]
    return {name: [points[i][k] for i in shown] for k, name in enumerate(("steps", "best", "mean"))}


@dataclass(frozen=True)
class Displacement:
    """Displacement of synthetic observations from their initial real ones, in their own units.

    Attributes:
        mean: mean absolute change of a pixel, in grey levels, or of a feature.
        largest: largest absolute change.
    """

    mean: float
    largest: float

    @classmethod
    def between(cls, after: Any, before: Any) -> Displacement:
        """Compute the displacement of one array or tensor from another."""
        moved = abs(after - before)
        return cls(float(moved.mean()), float(moved.max()))


@dataclass(frozen=True)
class MatchingLoss:
    """Matching loss before and after condensation, as defined in the method's file."""

    before: float
    after: float


@dataclass(frozen=True)
class Cost:
    """Cost of a condensation.

    Attributes:
        gradient_evaluations: number of gradients of one observation's loss.
        environment_steps: steps taken in the seen levels.
        device: `cpu` or `cuda`.
        wall_seconds: measured wall time, which differs between equal runs. What another run had
            made (a dataset's teachers, its critic) took this one no time, but its gradients count.
        cpu_seconds: measured processor time of the process on all processors.
        gpu_seconds: measured wall time during which a GPU was held.
        peak_memory_bytes: measured peak memory of the whole process.
    """

    gradient_evaluations: int = 0
    environment_steps: int = 0
    device: str = "cpu"
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    gpu_seconds: float = 0.0
    peak_memory_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Figures of a report that a method states itself.

    Attributes:
        displacement: displacement of synthetic observations.
        matching_loss: matching loss, for methods that match something.
        curve: `steps`, `best` and `mean` return during condensation, for methods that evaluate
            in the environment.
    """

    displacement: Displacement | None = None
    matching_loss: MatchingLoss | None = None
    curve: Mapping[str, list[float]] | None = None

    def figures(self) -> dict[str, Any]:
        """Return the figures by name."""
        return {figure.name: getattr(self, figure.name) for figure in fields(Figures)}


@dataclass(frozen=True)
class CondensationReport(Figures):
    """Report of a condensation: what condensed what, by which settings, and the method's figures.

    Attributes:
        method: id of the method.
        config: its settings, with defaults resolved.
        seed: condensation seed.
        budget: the budget, as requested.
        dataset: id of the source; None for methods without one.
        dataset_sha256: sha256 of the source's columns.
        expert_sha256: sha256 of the expert's weights, if the method received them.
        size: number of transitions kept.
        bytes: size of the condensed columns, weights, initialisation and scaling; of chosen rows
            without the observations that follow them.
        label_kind: `hard`, `soft` or `continuous`.
        cost: cost of the condensation.
        findings: findings of the detectors; None if no detector has run.
        task: id of the task; None in reports of an earlier version.
        initialisation_bytes: part of `bytes` that the initialisation takes, if there is one.
        score_correlation: rank correlation of episodes' scores with their `length` and `return`,
            for methods that score episodes or rows, of which the episode's mean counts; None
            where either is constant.
        fault_auroc: how often a clean episode scores above one with an injected fault, for methods
            that score episodes or rows, of data whose faults are known.
    """

    method: str
    config: Mapping[str, Any]
    seed: int
    budget: Mapping[str, Any]
    dataset: str | None
    dataset_sha256: str | None
    expert_sha256: str | None
    size: int
    bytes: int
    label_kind: str
    cost: Cost
    findings: tuple[Finding, ...] | None = None
    task: str | None = None
    initialisation_bytes: int | None = None
    score_correlation: CorrelationsJson | None = None
    fault_auroc: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        findings = self.findings
        plain = {
            **asdict(self),
            "findings": None if findings is None else list(map(asdict, findings)),
        }
        return {k: v for k, v in plain.items() if k not in _LATER or v is not None}

    def without_clock(self) -> tuple[ReportJson, SecondsJson]:
        """Return the report without measured costs, as records hold it, and its seconds."""
        report: Any = self.to_json()
        cost = report["cost"]
        seconds: Any = {kind: cost.pop(f"{kind}_seconds") for kind in ("wall", "cpu", "gpu")}
        del cost["peak_memory_bytes"]
        return report, seconds


Config = Annotated[Mapping[str, Setting], "its settings, defaults resolved"]
CostValue = Annotated[Setting, Rule(minimum=0, maximum=LARGEST)]
LabelKind = Annotated[str, one_of(*LABEL_KINDS), "kind of labels"]


@final
class SizeJson(TypedDict):
    """A budget that is a number of transitions, as plain values."""

    size: Annotated[Count, POSITIVE, "transitions"]


@final
class PercentJson(TypedDict):
    """A budget that is a percentage of the data, as plain values."""

    percent: Annotated[Number, Rule(exclusiveMinimum=0, maximum=100), "of the data"]
    unit: Annotated[str, one_of(*UNITS), "what the percentage counts"]


class _Bytes(TypedDict):
    bytes: Annotated[Count, POSITIVE, "of the stored rows and all else that students train with"]
    bits: Annotated[int, Rule(minimum=1, maximum=16), "of a stored pixel or feature"]


@final
class BytesJson(_Bytes, total=False):
    """A budget that is a number of bytes, as plain values."""

    resolution: Annotated[int, Rule(minimum=1, maximum=1024), "side of stored frames, if not own"]


BudgetJson = SizeJson | PercentJson | BytesJson
BudgetOrNone = Annotated[
    Annotated[SizeJson, "a number of transitions"]
    | Annotated[PercentJson, "a percentage of the data"]
    | Annotated[BytesJson, "a number of bytes"]
    | None,
    "how much the method may keep; null for policies that nobody condensed for",
]


class DisplacementJson(TypedDict):
    """A displacement as plain values."""

    mean: Annotated[Number, Rule(minimum=0), "mean absolute change"]
    largest: Annotated[Number, Rule(minimum=0), "largest absolute change"]


class MatchingLossJson(TypedDict):
    """A matching loss as plain values."""

    before: Annotated[Number, "at the start"]
    after: Annotated[Number, "at the end"]


class FindingJson(TypedDict):
    """A finding as plain values."""

    name: Annotated[Text, Rule(pattern="^[a-z]+(-[a-z]+)*$", maxLength=40), "of the detector"]
    measured: Annotated[Number, "the figure"]
    bound: Annotated[Number, "what it was compared with"]
    text: Annotated[Text, Rule(maxLength=400), "both in words"]


Findings = Annotated[list[Annotated[FindingJson, "one"]], Rule(maxItems=20)]


class _Kept(TypedDict):
    size: Annotated[Count, POSITIVE, "transitions kept"]
    label_kind: LabelKind


class ReportJson(_Kept, total=False):
    """A report as a record holds it, all but the costs that the clock measured.

    Reports of other versions, and of sets from elsewhere, may lack all but two of the fields.
    """

    method: Annotated[Id, "id of the method that condensed"]
    config: Config
    seed: Annotated[Count, "condensation seed"]
    budget: BudgetOrNone
    dataset: Annotated[Id | None, "id of the source; null of methods that take no data"]
    dataset_sha256: Annotated[Sha256 | None, "of the source's columns; null likewise"]
    expert_sha256: Annotated[Sha256 | None, "of the expert's weights, if the method was given them"]
    bytes: Annotated[
        Count, POSITIVE, "of the condensed columns, weights, initialisation and scaling"
    ]
    initialisation_bytes: Annotated[Count, "of those the initialisation's, if there is one"]
    cost: Annotated[
        Mapping[str, CostValue], "what condensation took, but for what the clock measured"
    ]
    displacement: Annotated[
        DisplacementJson | None,
        "how far synthetic observations moved from the real ones they started as",
    ]
    matching_loss: Annotated[
        MatchingLossJson | None,
        "of methods that match something, as the method's file defines it",
    ]
    score_correlation: Annotated[
        CorrelationsJson,
        "of methods that score episodes or rows: rank correlation of episodes' scores with "
        "the episodes' length and return",
    ]
    fault_auroc: Annotated[
        Number,
        Rule(minimum=0, maximum=1),
        "share of pairs in which a clean episode scores above a faulty one",
    ]
    findings: Annotated[
        Findings | None,
        "of the detectors in the condensed dataset; none where none have looked",
    ]


_VALUE = schema_of(Setting)
# A report may have any other fields: plain values, lists of them and mappings to either.
MORE_FIELDS = Rule(
    propertyNames=KEYS,
    additionalProperties={
        **_VALUE,
        "type": [*_VALUE["type"], "object"],
        "propertyNames": KEYS,
        "additionalProperties": _VALUE,
    },
)


def report_from(values: Any) -> CondensationReport | None:
    """Make a report from its plain values, each checked for its type."""
    json.dumps(values, allow_nan=False, ensure_ascii=False).encode()
    if "method" not in values:
        return None
    parts = {
        name: part_of(cls, values[name], name)
        for name, cls in (("cost", Cost), ("displacement", Displacement),
                          ("matching_loss", MatchingLoss))
        if name == "cost" or values.get(name)
    }  # fmt: skip
    if (findings := values.get("findings")) is not None:
        parts["findings"] = findings_from(findings)
    rest = {name: value for name, value in values.items() if name not in _PARTS}
    report: CondensationReport = part_of(CondensationReport, {**rest, **parts}, "the report")
    if report.seed < 0:
        raise ValueError(f"its report gives seed as {report.seed}, which must not be negative")
    check_whole(report.seed, "its report's seed")
    if any(value < 0 for value in vars(report.cost).values() if not isinstance(value, str)):
        raise ValueError("its report gives a negative cost")
    return report


def findings_from(values: Iterable[Any]) -> tuple[Finding, ...]:
    """Make findings from plain values, each checked for its type."""
    return tuple(part_of(Finding, value, "a finding") for value in values)


def part_of(cls: type[Any], values: Any, what: str) -> Any:
    """Make a dataclass from plain values.

    Raises:
        TypeError: a value has another type than its field.
    """
    if not isinstance(values, dict):
        raise TypeError(f"{what} is no table of values")
    hints = get_type_hints(cls)
    for name, value in values.items():
        if name in hints and not is_a(value, hints[name]):
            raise TypeError(f"{what} gives {name} in another form")
    return cls(**values)


def is_a(value: Any, hint: Any) -> bool:
    options = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    kinds = [get_origin(option) or option for option in options]
    if isinstance(value, bool) or value is None:
        return type(value) in kinds
    if isinstance(value, str) and one_line(value) != value:
        return False
    if isinstance(value, (int, float)):
        return abs(value) < 2**63 and (float in kinds or type(value) in kinds)
    return isinstance(value, tuple(kinds))
