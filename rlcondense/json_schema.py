"""JSON Schemas (draft-07) derived from types: `TypedDict`s whose annotations describe their fields.

In `Annotated[hint, ...]` a text is the field's description, and a `Rule` holds further keywords.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from rlcondense.limits import LARGEST, MOST_MEASURED

Json = dict[str, Any]


class Rule:
    """Keywords of JSON Schema in an annotation; None removes what the type itself says."""

    def __init__(self, **keywords: Any) -> None:
        self.keywords = keywords


def one_of(*texts: str) -> Rule:
    """Return the rule of a text that is one of a few."""
    return Rule(type=None, enum=list(texts))


# The form of catalogue ids; `..` in an id would lead out of a folder when it becomes a path.
NAME = r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)*"
# Excludes tags and characters that control a terminal or a page: control characters (C0, C1),
# line separators and marks that change the direction of writing.
PLAIN = r"^[^<>\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]*$"
KEYS: Json = {"pattern": PLAIN, "maxLength": 200}  # of mappings with any names
POSITIVE = Rule(minimum=1)

Text = Annotated[str, Rule(pattern=PLAIN, maxLength=200)]
Id = Annotated[Text, Rule(pattern=f"^{NAME}$", maxLength=128)]
Sha256 = Annotated[Text, Rule(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Rule(minimum=0, maximum=LARGEST)]
Number = Annotated[float, Rule(minimum=-MOST_MEASURED, maximum=MOST_MEASURED)]
_SCALAR: Json = {
    "type": ["string", "number", "boolean", "null"],
    **KEYS,
    "minimum": -MOST_MEASURED,
    "maximum": MOST_MEASURED,
}
_KINDS = [*_SCALAR["type"], "array"]
Setting = Annotated[
    Any,
    Rule(**{**_SCALAR, "type": _KINDS, "maxItems": 1000, "items": _SCALAR}),
    "a plain value, or a list of them",
]

_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}


def schema_of(hint: Any) -> Json:
    """Derive the schema of a type.

    A `TypedDict` and a mapping from literal names hold their names and no others. A union is of
    None and one type, or of None and several `TypedDict`s.
    """
    if is_typeddict(hint):
        hints = get_type_hints(hint, include_extras=True)
        fields = {name: schema_of(part) for name, part in hints.items()}
        return _object(fields, [name for name in hints if name in hint.__required_keys__])
    if derive := _GENERIC.get(get_origin(hint)):
        return derive(*get_args(hint))
    return {} if hint is Any else {"type": _TYPES[hint]}


def _annotated(hint: Any, *notes: str | Rule) -> Json:
    schema = schema_of(hint)
    for note in notes:
        schema |= {"description": note} if isinstance(note, str) else note.keywords
    return {name: value for name, value in schema.items() if value is not None}


def _or_null(*options: Any) -> Json:
    schemas = [schema_of(option) for option in options if option is not NoneType]
    kinds = [*dict.fromkeys(schema["type"] for schema in schemas), "null"]
    if len(schemas) == 1:
        return {**schemas[0], "type": kinds}
    return {"type": kinds, "oneOf": [{"type": "null"}, *schemas]}


def _array(items: Any) -> Json:
    return {"type": "array", "items": schema_of(items)}


def _mapping(keys: Any, values: Any) -> Json:
    if get_origin(keys) is Literal:
        return _object({name: schema_of(values) for name in get_args(keys)}, get_args(keys))
    return {"type": "object", "propertyNames": KEYS, "additionalProperties": schema_of(values)}


def _object(fields: Json, required: Sequence[str]) -> Json:
    return {
        "type": "object",
        "properties": fields,
        "required": list(required),
        "additionalProperties": False,
    }


_GENERIC: Mapping[Any, Callable[..., Json]] = {
    Annotated: _annotated,
    Union: _or_null,
    UnionType: _or_null,
    list: _array,
    Mapping: _mapping,
}
