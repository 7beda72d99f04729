"""Schemas of annotated types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypedDict

import pytest

from rlcondense.json_schema import KEYS, Rule, one_of, schema_of

Length = Annotated[int, Rule(minimum=0), "of a pole"]


class Pole(TypedDict):
    length: Annotated[Length, Rule(minimum=1)]


class Cart(Pole, total=False):
    poles: Pole | None


TEXT, POLE = {"type": "string"}, {"length": {"type": "integer", "minimum": 1}}


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (Length, {"type": "integer", "minimum": 0, "description": "of a pole"}),
        (Annotated[Length, Rule(minimum=None), "mine"], {"type": "integer", "description": "mine"}),
        (Annotated[str, one_of("left", "right")], {"enum": ["left", "right"]}),
        (float | None, {"type": ["number", "null"]}),
        (list[bool], {"type": "array", "items": {"type": "boolean"}}),
        (
            Mapping[str, str],
            {"type": "object", "propertyNames": KEYS, "additionalProperties": TEXT},
        ),
        (
            Mapping[Literal["seen"], str],
            {
                "type": "object", "properties": {"seen": TEXT}, "required": ["seen"],
                "additionalProperties": False,
            },
        ),
        (Any, {}),
    ],
)  # fmt: skip
def test_each_kind_of_type_has_its_schema(hint: Any, schema: dict[str, Any]) -> None:
    assert schema_of(hint) == schema


def test_a_typed_dict_allows_its_fields_alone() -> None:
    schema = schema_of(Cart)
    assert list(schema["properties"]) == ["length", "poles"]
    assert schema["required"] == ["length"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["poles"]["type"] == ["object", "null"]


def test_a_union_of_several_typed_dicts_names_null_first() -> None:
    class Wheel(TypedDict):
        radius: float

    schema = schema_of(Pole | Wheel | None)
    assert schema["type"] == ["object", "null"]
    assert [one["type"] for one in schema["oneOf"]] == ["null", "object", "object"]
