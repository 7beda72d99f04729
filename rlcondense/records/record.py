"""The record of a cell, the JSON file that a run writes: a type for each part of it.

The JSON Schema of records is derived from these types, so that a field is declared here alone.
Those of the condensation's report lie beside it, in `rlcondense.datasets.report`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypedDict

from rlcondense.datasets.report import (
    MORE_FIELDS,
    BudgetOrNone,
    Config,
    CorrelationsJson,
    CostValue,
    Findings,
    LabelKind,
    ReportJson,
)
from rlcondense.json_schema import (
    NAME,
    POSITIVE,
    Count,
    Id,
    Number,
    Rule,
    Setting,
    Sha256,
    Text,
    one_of,
)
from rlcondense.limits import MOST_EVALUATION_SEED, MOST_LEARNER_SEEDS, MOST_SECONDS
from rlcondense.protocol import PROTOCOL_VERSION
from rlcondense.types import Split

SCHEMA_VERSION = 2

Version = Annotated[Text, Rule(pattern=r"^[0-9][A-Za-z0-9]*([._+-][A-Za-z0-9]+)*$")]
CellId = Annotated[Text, Rule(pattern="^[0-9a-f]{16}$"), "hash of the cell, and the file's name"]
_STATUSES = ("done", "failed", "skipped", "not-installed")
ActionSelection = Annotated[str, one_of("sample", "greedy"), "how the policies chose actions"]
# The schema describes rows as rows; `wrong_rows` checks that they hold numbers, and as many as the
# protocol asks for, since a validator takes long over thousands of them.
Floats = Annotated[list[float], Rule(items=None)]
Integers = Annotated[list[int], Rule(items=None)]
_ROWS = "a row for each learner seed, a number for each episode"
Returns = Annotated[list[Floats], Rule(minItems=1), _ROWS]
Lengths = Annotated[list[Integers], Rule(minItems=1), _ROWS]
Levels = Annotated[Integers, Rule(minItems=1), "a level for each episode"]


class MethodJson(TypedDict):
    """A method, a reference policy or somebody's data or policies, as plain values."""

    id: Annotated[
        Id,
        Rule(pattern=f"^(condensed:|policies:)?{NAME}$"),
        "id of the method, or of a reference policy; `condensed:NAME` for somebody's condensed "
        "dataset and `policies:NAME` for somebody's policies",
    ]
    config: Config


class LearnerJson(TypedDict):
    """A learner as plain values."""

    id: Annotated[Id, "id of the learner"]
    config: Config


class EvaluationJson(TypedDict):
    """A protocol as plain values."""

    protocol: Annotated[int, Rule(type=None, const=PROTOCOL_VERSION), "its version"]
    environments: Annotated[Count, POSITIVE, "parallel environments of each policy"]
    quota: Annotated[Count, POSITIVE, "episodes each environment plays"]
    seed: Annotated[
        Count, Rule(maximum=MOST_EVALUATION_SEED), "of the levels and of the policies' noise"
    ]


class CellJson(TypedDict):
    """A cell as plain values."""

    task: Annotated[Id, "id of the task"]
    dataset: Annotated[
        Id,
        Rule(pattern=f"^({NAME})?$"),
        "id of the dataset; empty for policies that none is needed for",
    ]
    method: Annotated[MethodJson, "what is compared"]
    budget: BudgetOrNone
    learner: Annotated[
        LearnerJson | None, "what trains the policies; null where nothing is trained"
    ]
    condensation_seed: Annotated[Count, "of the method"]
    learner_seeds: Annotated[
        list[Annotated[Count, "one"]],
        Rule(minItems=1, maxItems=MOST_LEARNER_SEEDS, uniqueItems=True),
        "of the policies, one each",
    ]
    evaluation: Annotated[EvaluationJson, "the protocol"]


class SummaryJson(TypedDict):
    """Statistics of the returns on one split."""

    mean: Annotated[Number, "over learner seeds and episodes"]
    standard_error: Annotated[float | None, "over learner seeds"]
    interval: Annotated[
        Annotated[list[Annotated[Number, "bound"]], Rule(minItems=2, maxItems=2)] | None,
        "of 95%, by Student's t over learner seeds",
    ]
    episode_standard_error: Annotated[float | None, "over levels, each averaged over the seeds"]
    seeds: Annotated[Count, POSITIVE, "learner seeds"]
    episodes: Annotated[Count, POSITIVE, "all of them"]


class TrainingJson(TypedDict):
    """Loss on held-back rows along the training of students."""

    updates: Annotated[
        list[Annotated[Count, POSITIVE, "one"]],
        Rule(maxItems=1000),
        "after how many updates the loss was taken",
    ]
    held_back_loss: Annotated[
        list[list[Annotated[Number, "loss"]]], "a row for each learner seed, a number each time"
    ]
    best_update: Annotated[
        list[Annotated[Count, POSITIVE, "one"]], "whose weights each student kept"
    ]
    cap: Annotated[Count, POSITIVE, "updates after which training would have ended anyway"]


class PluginJson(TypedDict):
    """A class of a cell that is not this package's own, as plain values."""

    target: Annotated[Text, "module:attribute of its class"]
    distribution: Annotated[
        Text, Rule(pattern=r"^[A-Za-z0-9_.-]*$"), "its distribution; empty for a file"
    ]
    version: Annotated[Text, "of the distribution; empty for a file"]


class GitJson(TypedDict):
    """State of a checkout."""

    commit: Annotated[Text, Rule(pattern="^[0-9a-f]{40,64}$"), "full hash"]
    dirty: Annotated[bool, "whether files were changed"]


class EnvironmentJson(TypedDict):
    """Software and hardware that computed a cell."""

    rlcondense: Annotated[Version, "version of this package"]
    python: Annotated[Version, "version of Python"]
    packages: Annotated[
        Mapping[str, Annotated[Version, "version"] | None],
        "versions of what results depend on, null where one is not installed",
    ]
    os: Annotated[Text, "system and machine"]
    cpu: Annotated[Text, "model of the processor"]
    gpu: Annotated[Text, "model of the GPU that was used"] | None
    device: Annotated[str, one_of("cpu", "cuda"), "where networks computed"]
    threads: Annotated[Count, POSITIVE, "of torch"]
    git: Annotated[
        GitJson | None, "of the checkout the package was run from; null for an installed one"
    ]


_SECONDS = Rule(minimum=0, maximum=MOST_SECONDS)


class SecondsJson(TypedDict):
    """Seconds that a phase took, as plain values."""

    wall: Annotated[Number, _SECONDS, "seconds by the clock"]
    cpu: Annotated[Number, _SECONDS, "seconds of the process on all processors"]
    gpu: Annotated[Number, _SECONDS, "of the wall seconds those with a GPU held"]


Key = Annotated[Mapping[str, Setting], "what the numbers depend on beside the cell"]
Timings = Annotated[
    Mapping[str, Annotated[SecondsJson, "of one phase, measured"]],
    "seconds by phase; not part of the checksum",
]
Memory = Annotated[
    Mapping[str, Annotated[Count, "bytes"]], "most bytes held; not part of the checksum"
]


class Done(TypedDict, total=False):
    """Fields that every finished cell has."""

    returns: Annotated[Mapping[Split, Returns], "undiscounted returns, raw"]
    lengths: Annotated[Mapping[Split, Lengths], "steps of the episodes"]
    level_seeds: Annotated[
        Mapping[Split, Levels], "levels of the episodes, the same for every policy"
    ]
    summary: Annotated[
        Mapping[
            Split,
            Annotated[SummaryJson, "statistics of the returns, which they must agree with"],
        ],
        "of each split",
    ]
    action_selection: ActionSelection
    key: Key
    timings: Timings
    memory: Memory


class Learned(TypedDict, total=False):
    """Fields that every finished cell with a learner has too."""

    report: Annotated[
        ReportJson,
        MORE_FIELDS,
        "how the condensed dataset came about; other plain values may be added to it",
    ]
    labels: Annotated[LabelKind, "the kind of labels the learner learned from"]


class _Occasional(Done, Learned, total=False):
    findings: Annotated[Findings, "of the detectors in the policies"]
    training: Annotated[
        TrainingJson,
        "of students that trained until the loss on held-back rows stopped falling",
    ]
    reason: Annotated[str, Rule(maxLength=20_000), "why it is not done"]
    traceback: Annotated[str, Rule(maxLength=200_000), "of what failed"]


class CellResult(_Occasional):
    """What came of a cell."""

    status: Annotated[
        str,
        one_of(*_STATUSES),
        "what came of the cell; only done and skipped ones can be published",
    ]


class RecordFrame(TypedDict):
    """Fields that a record has before its cell is computed."""

    schema_version: Annotated[int, Rule(type=None, const=SCHEMA_VERSION), "of this form"]
    cell_id: CellId
    cell: Annotated[
        CellJson, "the point of the comparison, with everything that decides its numbers resolved"
    ]
    plugins: Annotated[
        list[Annotated[PluginJson, "one"]],
        Rule(maxItems=10),
        "what the cell used that is not this package's own",
    ]
    environment: Annotated[EnvironmentJson, "where it was made"]


class UnsealedRecord(RecordFrame, CellResult):
    """A record before its checksum is computed."""


class Record(UnsealedRecord):
    """One cell and what came of it, as `rlcondense run` writes it."""

    content_sha256: Annotated[Sha256, "of the record but for timings, memory and this"]


class Facts(TypedDict):
    """What the index of a results folder holds of a finished record."""

    cell: CellJson
    size: int | None
    bytes: int | None
    labels: str | None
    findings: Findings
    score_correlation: CorrelationsJson | None
    fault_auroc: Annotated[Number, "share of pairs"] | None
    cost: Mapping[str, CostValue]
    key: Key
    timings: Timings
    memory: Memory
    means: Mapping[
        Split,
        Annotated[list[Annotated[Number, "mean of a student's episodes"]], Rule(minItems=1)],
    ]
    action_selection: ActionSelection
    steps: Annotated[Count, "of all episodes"]


class IndexEntry(TypedDict):
    """What the index of a results folder holds of a record."""

    id: CellId
    stamp: Annotated[list[int], Rule(minItems=2)]
    status: Annotated[str, one_of(*_STATUSES, "foreign", "corrupt")]
    reason: str
    facts: Facts | None
