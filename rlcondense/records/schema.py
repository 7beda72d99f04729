"""The JSON Schema (draft-07) of records, derived from their types, and checks against it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, Literal

from rlcondense.json_schema import PLAIN, Json, Setting, schema_of
from rlcondense.limits import LARGEST
from rlcondense.records.record import CellJson, Done, IndexEntry, Learned, Record
from rlcondense.text import shown, unquoted
from rlcondense.types import SPLITS

KINDS: Mapping[Literal["returns", "lengths"], set[type]] = {
    "returns": {int, float},
    "lengths": {int},
}
_ONLY_PUBLISHED = ("pattern", "maxLength", "maxItems", "propertyNames")
_SETTING = schema_of(Setting)


def _if_status(status: str, fields: list[str], **more: Any) -> Json:
    return {
        "if": {"properties": {"status": {"const": status}}, "required": ["status"]},
        "then": {"required": fields, **more},
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
        "then": {"required": list(Learned.__annotations__)},
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A record of rlcondense",
        **schema_of(Record),
        "description": "One cell and what came of it, as `rlcondense run` writes it.",
        "allOf": [
            _if_status("done", list(Done.__annotations__)),
            _if_status("skipped", ["reason"], properties={"reason": {"pattern": PLAIN}}),
            _if_status("failed", ["reason"]),
            _if_status("not-installed", ["reason"]),
            learned,
        ],
    }


@cache
def _validator(schema: Callable[[], Json]) -> Callable[[Any], Any]:
    import fastjsonschema

    check: Callable[[Any], Any] = fastjsonschema.compile(schema(), use_default=False)
    return check


def _readable_record() -> Json:
    return _loosened(record_schema())


def _readable_cell() -> Json:
    return _loosened(schema_of(CellJson))


def _index_entry() -> Json:
    done = _if_status("done", ["facts"], properties={"facts": {"type": "object"}})
    return _loosened({**schema_of(IndexEntry), "allOf": [done]})


def is_entry(value: Any) -> bool:
    """Return whether a value has the form of an entry in a results folder's index."""
    return _fits(_index_entry, value)


def is_cell(value: Any) -> bool:
    """Return whether a value has the form of a cell, with any names and settings."""
    return _fits(_readable_cell, value)


def _fits(schema: Callable[[], Json], value: Any) -> bool:
    from fastjsonschema import JsonSchemaValueException

    try:
        _validator(schema)(value)
    except JsonSchemaValueException:
        return False
    return True


def _loosened(schema: Json) -> Json:
    """Return the schema of readable records: types and bounds, with any names and settings.

    Names of plugins and of the user's folders need not meet the rules for publication.
    """
    if schema == _SETTING:
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


def misshapen(record: Mapping[str, Any]) -> str | None:
    """Return the first fault in a record's form, its rows of numbers included, or None."""
    return what_is_wrong(record) or _wrong_row(record)


def unreadable(record: Mapping[str, Any]) -> str | None:
    """Return the fault that keeps a record from being read where it was written, or None.

    Published records must meet more rules: see `misshapen`.
    """
    return _broken_rule(record, _readable_record) or _wrong_row(record)


def _wrong_row(record: Mapping[str, Any]) -> str | None:
    return next(wrong_rows(record), None) if record["status"] == "done" else None


def wrong_rows(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield the faults of a finished record's rows of numbers, by its protocol."""
    cell = record["cell"]
    seeds = len(cell["learner_seeds"])
    environments, quota = cell["evaluation"]["environments"], cell["evaluation"]["quota"]
    episodes = environments * quota
    for split in SPLITS:
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
    elif max(map(abs, row), default=0) > LARGEST:
        yield f"{what} holds a number that is too large"


def what_is_wrong(record: Mapping[str, Any]) -> str | None:
    """Return the first fault of a record by the schema, in one line, or None."""
    return _broken_rule(record, record_schema) or next(_no_whole_numbers(record, _schema()), None)


_schema = cache(record_schema)


def _broken_rule(record: Mapping[str, Any], schema: Callable[[], Json]) -> str | None:
    """Return the rule of the schema that a record breaks, in one line, or None."""
    from fastjsonschema import JsonSchemaValueException

    try:
        _validator(schema)(record)
        return None
    except JsonSchemaValueException as error:
        where = ".".join(str(part) for part in error.path[1:]) or "it"
        rule, asked = error.rule, error.rule_definition
        if rule == "required":
            absent = [name for name in asked if name not in error.value]
            return f"{unquoted(where)} lacks {', '.join(absent)}"
        if rule == "additionalProperties":
            unknown = sorted(set(error.value) - set(error.definition["properties"]))
            return f"{unquoted(where)} has unknown fields: {', '.join(map(shown, unknown[:3]))}"
        wanted = _wanted(rule, asked)
        return f"{unquoted(where)} {wanted}, and is {shown(error.value)}"


def _no_whole_numbers(value: Any, schema: Json, *path: str) -> Iterator[str]:
    """Yield a fault for each 1.0 or true in place of a whole number.

    JSON Schema takes 1.0 for an integer, but it changes a cell's id.
    """
    if not schema:  # it says nothing of what is inside, either
        return
    whole = "integer" in _types(schema) or type(schema.get("const")) is int
    if whole and value is not None and type(value) is not int:
        yield f"{unquoted('.'.join(path))} must be a whole number, and is {shown(value)}"
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
