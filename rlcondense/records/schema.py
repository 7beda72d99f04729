"""The JSON Schema (draft-07) of records, the files that runs write, with every field described.

The rows of numbers (`returns`, `lengths`, `level_seeds`) are described here as rows; that they
hold numbers, and as many as the protocol asks for, is checked where records are verified.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from rlcondense.limits import (
    LARGEST,
    MOST_EVALUATION_SEED,
    MOST_LEARNER_SEEDS,
    MOST_MEASURED,
    MOST_SECONDS,
)
from rlcondense.protocol import PROTOCOL_VERSION
from rlcondense.text import shown
from rlcondense.types import Record

Json = dict[str, Any]
SCHEMA_VERSION = 2
KINDS: Mapping[str, set[type]] = {"returns": {int, float}, "lengths": {int}}
_SPLITS = ("seen", "heldout")
_ONLY_PUBLISHED = ("pattern", "maxLength", "maxItems", "propertyNames")

# The form of catalogue ids; `..` in an id would lead out of a folder when it becomes a path.
_NAME = r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)*"
# Excludes tags and characters that control a terminal or a page: control characters (C0, C1),
# line separators and marks that change the direction of writing.
_PLAIN = r"^[^<>\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]*$"
_VERSION = r"^[0-9]+(\.[0-9]+)*([._+-]?[A-Za-z0-9]+)*$"
_LONGEST = 200  # characters of a name


def _text(description: str, pattern: str = _PLAIN, longest: int = _LONGEST) -> Json:
    return {
        "type": "string", "pattern": pattern, "maxLength": longest, "description": description
    }  # fmt: skip


def _id(description: str, prefix: str = "") -> Json:
    return _text(description, f"^{prefix}{_NAME}$", 128)


def _sha256(description: str) -> Json:
    return _text(description, "^[0-9a-f]{64}$")


def _count(description: str, least: int = 0) -> Json:
    return {
        "type": "integer", "minimum": least, "maximum": LARGEST, "description": description
    }  # fmt: skip


def _number(description: str, **limits: float) -> Json:
    bounds = {"minimum": -MOST_MEASURED, "maximum": MOST_MEASURED}
    return {"type": "number", **bounds, **limits, "description": description}


def _or_null(schema: Json) -> Json:
    kind = schema["type"]
    return {**schema, "type": [kind, "null"]}


_KEYS: Json = {"pattern": _PLAIN, "maxLength": _LONGEST}


def _map(description: str, values: Json) -> Json:
    return {
        "type": "object",
        "propertyNames": _KEYS,
        "additionalProperties": values,
        "description": description,
    }


def _closed(description: str, properties: Json, optional: tuple[str, ...] = ()) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
        "description": description,
    }


def _splits(description: str, values: Json) -> Json:
    return _closed(description, {"seen": values, "heldout": values})


_SETTING: Json = {
    "type": ["string", "number", "boolean", "null", "array"],
    "pattern": _PLAIN,
    "maxLength": _LONGEST,
    "maxItems": 1000,
    "minimum": -MOST_MEASURED,
    "maximum": MOST_MEASURED,
    "items": {
        "type": ["string", "number", "boolean", "null"], "pattern": _PLAIN, "maxLength": _LONGEST,
        "minimum": -MOST_MEASURED, "maximum": MOST_MEASURED,
    },
    "description": "a plain value, or a list of them",
}  # fmt: skip

_COST = {**_SETTING, "minimum": 0, "maximum": LARGEST}
_CONFIG = _map("its settings, defaults resolved", _SETTING)

_BUDGET: Json = {
    "type": ["object", "null"],
    "oneOf": [
        {"type": "null"},
        _closed("a number of transitions", {"size": _count("transitions", 1)}),
        _closed(
            "a percentage of the data",
            {
                "percent": _number("of the data", exclusiveMinimum=0, maximum=100),
                "unit": {
                    "enum": ["transitions", "episodes"],
                    "description": "what the percentage counts",
                },
            },
        ),
    ],
    "description": "how much the method may keep; null for policies that nobody condensed for",
}

_CELL = _closed(
    "the point of the comparison, with everything that decides its numbers resolved",
    {
        "task": _id("id of the task"),
        "dataset": _text(
            "id of the dataset; empty for policies that none is needed for", f"^({_NAME})?$", 128
        ),
        "method": _closed(
            "what is compared",
            {
                "id": _id(
                    "id of the method, or of a reference policy; `condensed:NAME` for somebody's "
                    "condensed dataset and `policies:NAME` for somebody's policies",
                    "(condensed:|policies:)?",
                ),
                "config": _CONFIG,
            },
        ),
        "budget": _BUDGET,
        "learner": {
            **_closed(
                "what trains the policies; null where nothing is trained",
                {"id": _id("id of the learner"), "config": _CONFIG},
            ),
            "type": ["object", "null"],
        },
        "condensation_seed": _count("of the method"),
        "learner_seeds": {
            "type": "array",
            "items": _count("one"),
            "minItems": 1,
            "maxItems": MOST_LEARNER_SEEDS,
            "uniqueItems": True,
            "description": "of the policies, one each",
        },
        "evaluation": _closed(
            "the protocol",
            {
                "protocol": {"const": PROTOCOL_VERSION, "description": "its version"},
                "environments": _count("parallel environments of each policy", 1),
                "quota": _count("episodes each environment plays", 1),
                "seed": {
                    **_count("of the levels and of the policies' noise"),
                    "maximum": MOST_EVALUATION_SEED,
                },
            },
        ),
    },
)

_SECONDS = _closed(
    "of one phase, measured",
    {
        kind: _number(what, minimum=0, maximum=MOST_SECONDS)
        for kind, what in {
            "wall": "seconds by the clock",
            "cpu": "seconds of the process on all processors",
            "gpu": "of the wall seconds those with a GPU held",
        }.items()
    },
)

_FINDINGS: Json = {
    "type": "array",
    "maxItems": 20,
    "items": _closed(
        "one",
        {
            "name": _text("of the detector", "^[a-z]+(-[a-z]+)*$", 40),
            "measured": _number("the figure"),
            "bound": _number("what it was compared with"),
            "text": _text("both in words", longest=400),
        },
    ),
}

_REPORT: Json = {
    "type": "object",
    "properties": {
        "method": _id("id of the method that condensed"),
        "config": _CONFIG,
        "seed": _count("condensation seed"),
        "budget": _BUDGET,
        "dataset": _or_null(_id("id of the source; null of methods that take no data")),
        "dataset_sha256": _or_null(_sha256("of the source's columns; null likewise")),
        "expert_sha256": _or_null(_sha256("of the expert's weights, if the method was given them")),
        "size": _count("transitions kept", 1),
        "bytes": _count("of the condensed columns, weights, initialisation and scaling", 1),
        "initialisation_bytes": _count("of those the initialisation's, if there is one"),
        "label_kind": {"enum": ["hard", "soft", "continuous"], "description": "kind of labels"},
        "cost": _map("what condensation took, but for what the clock measured", _COST),
        "displacement": {
            **_closed(
                "how far synthetic observations moved from the real ones they started as",
                {
                    "mean": _number("mean absolute change", minimum=0),
                    "largest": _number("largest absolute change", minimum=0),
                },
            ),
            "type": ["object", "null"],
        },
        "matching_loss": {
            **_closed(
                "of methods that match something, as the method's file defines it",
                {"before": _number("at the start"), "after": _number("at the end")},
            ),
            "type": ["object", "null"],
        },
        "score_correlation": _closed(
            "of methods that score episodes or rows: rank correlation of episodes' scores",
            {
                name: _or_null(_number(f"with the {name}", minimum=-1, maximum=1))
                for name in ("length", "return")
            },
        ),
        "fault_auroc": _number(
            "share of pairs in which a clean episode scores above a faulty one",
            minimum=0,
            maximum=1,
        ),
        "findings": {
            **_or_null(_FINDINGS),
            "description": "of the detectors in the condensed dataset; none where none have looked",
        },
    },
    "required": ["size", "label_kind"],
    "propertyNames": _KEYS,
    "additionalProperties": {
        **_SETTING, "type": ["string", "number", "boolean", "null", "array", "object"],
        "propertyNames": _KEYS,
        "additionalProperties": _SETTING,
    },
    "description": "how the condensed dataset came about; other plain values may be added to it",
}  # fmt: skip

_ENVIRONMENT = _closed(
    "where it was made",
    {
        "rlcondense": _text("version of this package", _VERSION),
        "python": _text("version of Python", _VERSION),
        "packages": _map(
            "versions of what results depend on, null where one is not installed",
            _or_null(_text("version", _VERSION)),
        ),
        "os": _text("system and machine"),
        "cpu": _text("model of the processor"),
        "gpu": _or_null(_text("model of the GPU that was used")),
        "device": {"enum": ["cpu", "cuda"], "description": "where networks computed"},
        "threads": _count("of the environments and of torch", 1),
        "git": {
            **_closed(
                "of the checkout the package was run from; null for an installed one",
                {
                    "commit": _text("full hash", "^[0-9a-f]{40,64}$"),
                    "dirty": {"type": "boolean", "description": "whether files were changed"},
                },
            ),
            "type": ["object", "null"],
        },
    },
)

_SUMMARY = _closed(
    "statistics of the returns, which they must agree with",
    {
        "mean": _number("over learner seeds and episodes"),
        "standard_error": {"type": ["number", "null"], "description": "over learner seeds"},
        "interval": {
            "type": ["array", "null"],
            "items": _number("bound"),
            "minItems": 2,
            "maxItems": 2,
            "description": "of 95%, by Student's t over learner seeds",
        },
        "episode_standard_error": {
            "type": ["number", "null"],
            "description": "over levels, each averaged over the seeds",
        },
        "seeds": _count("learner seeds", 1),
        "episodes": _count("all of them", 1),
    },
)

_ROWS: Json = {
    "type": "array",
    "items": {"type": "array"},
    "minItems": 1,
    "description": "a row for each learner seed, a number for each episode",
}

_DONE = (
    "returns", "lengths", "level_seeds", "summary", "action_selection", "key", "timings", "memory"
)  # fmt: skip

_FIELDS: Json = {
    "schema_version": {"const": SCHEMA_VERSION, "description": "of this form"},
    "status": {
        "enum": ["done", "failed", "skipped", "not-installed"],
        "description": "what came of the cell; only done and skipped ones can be published",
    },
    "cell_id": _text("hash of the cell, and the file's name", "^[0-9a-f]{16}$"),
    "cell": _CELL,
    "returns": _splits("undiscounted returns, raw", _ROWS),
    "lengths": _splits("steps of the episodes", _ROWS),
    "level_seeds": _splits(
        "levels of the episodes, the same for every policy",
        {"type": "array", "minItems": 1, "description": "a level for each episode"},
    ),
    "summary": _splits("of each split", _SUMMARY),
    "action_selection": {
        "enum": ["sample", "greedy"],
        "description": "how the policies chose actions",
    },
    "report": _REPORT,
    "labels": {
        "enum": ["hard", "soft", "continuous"],
        "description": "the kind of labels the learner learned from",
    },
    "findings": {**_FINDINGS, "description": "of the detectors in the policies"},
    "training": _closed(
        "of students that trained until the loss on held-back rows stopped falling",
        {
            "updates": {
                "type": "array",
                "items": _count("one", 1),
                "maxItems": 1000,
                "description": "after how many updates the loss was taken",
            },
            "held_back_loss": {
                "type": "array",
                "items": {"type": "array", "items": _number("loss")},
                "description": "a row for each learner seed, a number each time",
            },
            "best_update": {
                "type": "array",
                "items": _count("one", 1),
                "description": "whose weights each student kept",
            },
            "cap": _count("updates after which training would have ended anyway", 1),
        },
    ),
    "key": _map("what the numbers depend on beside the cell", _SETTING),
    "plugins": {
        "type": "array",
        "maxItems": 10,
        "items": _closed(
            "one",
            {
                "target": _text("module:attribute of its class"),
                "distribution": _text("its distribution; empty for a file", r"^[A-Za-z0-9_.-]*$"),
                "version": _text("of the distribution; empty for a file"),
            },
        ),
        "description": "what the cell used that is not this package's own",
    },
    "environment": _ENVIRONMENT,
    "timings": _map("seconds by phase; not part of the checksum", _SECONDS),
    "memory": _map("most bytes held; not part of the checksum", _count("bytes")),
    "content_sha256": _sha256("of the record but for timings, memory and this"),
    "reason": {"type": "string", "maxLength": 20_000, "description": "why it is not done"},
    "traceback": {"type": "string", "maxLength": 200_000, "description": "of what failed"},
}


def _if_status(status: str, required: tuple[str, ...], **more: Any) -> Json:
    return {
        "if": {"properties": {"status": {"const": status}}, "required": ["status"]},
        "then": {"required": list(required), **more},
    }


def record_schema() -> Json:
    """Return the JSON Schema of a record."""
    learned: Json = {
        "if": {
            "properties": {
                "status": {"const": "done"},
                "cell": {"properties": {"learner": {"type": "object"}}, "required": ["learner"]},
            },
            "required": ["status", "cell"],
        },
        "then": {"required": ["report", "labels"]},
    }
    optional = (*_DONE, "report", "labels", "findings", "training", "reason", "traceback")
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A record of rlcondense",
        **_closed(
            "One cell and what came of it, as `rlcondense run` writes it.", _FIELDS, optional
        ),
        "allOf": [
            _if_status("done", _DONE),
            _if_status("skipped", ("reason",), properties={"reason": {"pattern": _PLAIN}}),
            _if_status("failed", ("reason",)),
            _if_status("not-installed", ("reason",)),
            learned,
        ],
    }


@cache
def _validator(*, loose: bool = False) -> Callable[[Any], Any]:
    import fastjsonschema

    schema = _loosened(record_schema()) if loose else record_schema()
    check: Callable[[Any], Any] = fastjsonschema.compile(schema, use_default=False)
    return check


@cache
def _entry_validator() -> Callable[[Any], Any]:
    import fastjsonschema

    row = {"type": "array", "minItems": 1, "items": _number("mean of a student's episodes")}
    count: Json = {"type": ["integer", "null"]}
    facts = {
        **_closed(
            "of a finished record",
            {
                "cell": _CELL,
                "size": count,
                "bytes": count,
                "labels": {"type": ["string", "null"]},
                "cost": _FIELDS["report"]["properties"]["cost"],
                "key": _FIELDS["key"],
                "timings": _FIELDS["timings"],
                "memory": _FIELDS["memory"],
                "means": _splits("of each split", row),
                "action_selection": _FIELDS["action_selection"],
                "steps": _count("of all episodes"),
            },
        ),
        "type": ["object", "null"],
    }
    entry = _closed(
        "what is noted of a record",
        {
            "id": _FIELDS["cell_id"],
            "stamp": {"type": "array", "items": {"type": "integer"}, "minItems": 2},
            "status": {"enum": [*_FIELDS["status"]["enum"], "foreign", "corrupt"]},
            "reason": {"type": "string"},
            "facts": facts,
        },
    )
    done = _if_status("done", ("facts",), properties={"facts": {"type": "object"}})
    schema = _loosened({**entry, "allOf": [done]})
    check: Callable[[Any], Any] = fastjsonschema.compile(schema, use_default=False)
    return check


def is_entry(value: Any) -> bool:
    """Return whether a value has the form of an entry in a results folder's index."""
    return _fits(_entry_validator(), value)


def is_cell(value: Any) -> bool:
    """Return whether a value has the form of a cell, with any names and settings."""
    return _fits(_cell_validator(), value)


def _fits(validator: Callable[[Any], Any], value: Any) -> bool:
    from fastjsonschema import JsonSchemaValueException

    try:
        validator(value)
    except JsonSchemaValueException:
        return False
    return True


@cache
def _cell_validator() -> Callable[[Any], Any]:
    import fastjsonschema

    check: Callable[[Any], Any] = fastjsonschema.compile(_loosened(_CELL), use_default=False)
    return check


def _loosened(schema: Json) -> Json:
    """Return the schema of readable records: types and bounds, with any names and settings.

    Names of plugins and of the user's folders need not meet the rules for publication.
    """
    if any(schema == setting for setting in (_SETTING, _KEYS)):
        return {}
    if "enum" in schema:
        return {"type": "string"}
    parts = {name: part for name, part in schema.items() if name not in _ONLY_PUBLISHED}
    return {name: _loosened_part(name, part) for name, part in parts.items()}


def _loosened_part(name: str, part: Any) -> Any:
    if name == "properties":
        return {inner: _loosened(schema) for inner, schema in part.items()}
    if name == "additionalProperties" and part is False:
        return True
    if name in ("additionalProperties", "items", "if", "then"):
        return _loosened(part)
    if name in ("oneOf", "allOf"):
        return [_loosened(schema) for schema in part]
    return part


def misshapen(record: Record) -> str | None:
    """Return the first fault in a record's form, its rows of numbers included, or None."""
    if wrong := what_is_wrong(record):
        return wrong
    return next(wrong_rows(record), None) if record["status"] == "done" else None


def unreadable(record: Record) -> str | None:
    """Return the fault that keeps a record from being read where it was written, or None.

    Published records must meet more rules: see `misshapen`.
    """
    if wrong := _broken_rule(record, loose=True):
        return wrong
    return next(wrong_rows(record), None) if record["status"] == "done" else None


def wrong_rows(record: Record) -> Iterator[str]:
    """Yield the faults of a finished record's rows of numbers, by its protocol."""
    cell = record["cell"]
    seeds = len(cell["learner_seeds"])
    environments, quota = cell["evaluation"]["environments"], cell["evaluation"]["quota"]
    episodes = environments * quota
    for split in _SPLITS:
        for name, kinds in KINDS.items():
            rows = record[name][split]
            if len(rows) != seeds:
                yield f"{name}.{split} has {len(rows)} rows for {seeds} learner seeds"
            for row in rows:
                yield from _row(f"{name}.{split}", row, kinds, episodes)
        yield from _row(f"level_seeds.{split}", record["level_seeds"][split], {int}, episodes)


def _row(what: str, row: list[Any], kinds: set[type], episodes: int) -> Iterator[str]:
    if len(row) != episodes:
        yield f"{what} has {len(row)} episodes, the protocol asks for {episodes}"
    elif not set(map(type, row)) <= kinds:
        yield f"{what} holds something that is no {'number' if float in kinds else 'whole number'}"
    elif any(abs(value) > LARGEST for value in row):
        yield f"{what} holds a number that is too large"


def what_is_wrong(record: Mapping[str, Any]) -> str | None:
    """Return the first fault of a record by the schema, in one line, or None."""
    return _broken_rule(record) or next(_no_whole_numbers(record, _schema()), None)


_schema = cache(record_schema)


def _broken_rule(record: Record, *, loose: bool = False) -> str | None:
    """Return the rule of the schema that a record breaks, in one line, or None."""
    from fastjsonschema import JsonSchemaValueException

    try:
        _validator(loose=loose)(record)
        return None
    except JsonSchemaValueException as error:
        where = ".".join(str(part) for part in error.path[1:]) or "it"
        rule, asked = error.rule, error.rule_definition
        if rule == "required":
            absent = [name for name in asked if name not in error.value]
            return f"{shown_path(where)} lacks {', '.join(absent)}"
        if rule == "additionalProperties":
            unknown = sorted(set(error.value) - set(error.definition["properties"]))
            return f"{shown_path(where)} has unknown fields: {', '.join(map(shown, unknown[:3]))}"
        wanted = _wanted(rule, asked)
        return f"{shown_path(where)} {wanted}, and is {shown(error.value)}"


def _no_whole_numbers(value: Any, schema: Json, *path: str) -> Iterator[str]:
    """Yield a fault for each 1.0 or true in place of a whole number.

    JSON Schema takes 1.0 for an integer, but it changes a cell's id.
    """
    whole = "integer" in _types(schema) or type(schema.get("const")) is int
    if whole and value is not None and type(value) is not int:
        yield f"{shown_path('.'.join(path))} must be a whole number, and is {shown(value)}"
    for one in schema.get("oneOf", ()):
        yield from _no_whole_numbers(value, one, *path)
    if isinstance(value, dict):
        named, others = schema.get("properties", {}), schema.get("additionalProperties")
        for name, inner in value.items():
            of_name = named.get(name, others if isinstance(others, dict) else {})
            yield from _no_whole_numbers(inner, of_name, *path, name)
    elif isinstance(value, list) and "items" in schema:
        for inner in value:
            yield from _no_whole_numbers(inner, schema["items"], *path)


def _types(schema: Json) -> list[str]:
    kinds: str | list[str] = schema.get("type", [])
    return [kinds] if isinstance(kinds, str) else kinds


def _wanted(rule: str, asked: Any) -> str:
    match rule:
        case "pattern" | "propertyNames":
            return "has characters, or an order of them, that are not allowed there"
        case "oneOf":
            return f"is none of: {'; '.join(one.get('description', 'null') for one in asked)}"
        case "enum":
            return f"must be one of {', '.join(asked)}"
        case "type" if isinstance(asked, list):
            return f"must be {' or '.join(asked)}"
        case "type" | "const":
            return f"must be {asked}"
    return f"breaks the rule {rule} {asked}"


def shown_path(path: str) -> str:
    """Escape a path within a record for a terminal: its parts are untrusted too."""
    return shown(path)[1:-1]
