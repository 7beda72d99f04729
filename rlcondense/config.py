"""Settings as frozen dataclasses: from names and strings to checked values, and to JSON."""

from __future__ import annotations

import dataclasses
import math
import numbers
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any, TypeVar

from rlcondense.errors import BadConfig
from rlcondense.limits import check_most

C = TypeVar("C")
# Metadata of a setting that came later: while it has its default, it is left out of JSON, so that
# what was computed before there was such a setting keeps its name.
LATER: Mapping[str, Any] = types.MappingProxyType({"later": True})


def make_config(cls: type[C], settings: Mapping[str, Any], owner: str) -> C:
    """Build `cls` from settings whose values may be strings, as a command line gives them.

    Args:
        cls: a frozen dataclass of int, float, bool, str and optional such fields.
        settings: field names to values.
        owner: owner of the settings, for messages, such as `method 'gradmatch'`.

    Raises:
        BadConfig: a key is unknown, or a value of the wrong type or out of range.
    """
    hints = _type_hints(cls)  # type: ignore[arg-type]
    names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    check_keys(settings, names, owner)
    values = {k: _convert(v, hints[k], f"setting {k!r} of {owner}") for k, v in settings.items()}
    try:
        config = cls(**values)
    except BadConfig as error:
        raise BadConfig(f"{owner}: {error}") from None
    for key, value in values.items():
        if isinstance(value, int):
            check_most(f"setting {key!r} of {owner}", abs(value))
    return config


@cache  # compiles each annotation, a millisecond for a config
def _type_hints(cls: type[Any]) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def recorded_settings(cls: type[Any], recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that `config_json` of a class of settings left out, and the others.

    An entry of the catalogue may have defaults of its own.
    """
    later = (field for field in dataclasses.fields(cls) if field.metadata.get("later"))
    return {**{field.name: field.default for field in later}, **recorded}


def config_json(config: Any) -> dict[str, Any]:
    """Return a config's fields as plain values, without `LATER` fields at their defaults."""
    fields = dataclasses.fields(config)
    plain = {f.name: getattr(config, f.name) for f in fields}
    if not all(isinstance(value, _SCALARS) for value in plain.values()):
        plain = dataclasses.asdict(config)  # a copy of all that can change
    for f in fields:
        if f.metadata.get("later") and plain[f.name] == f.default:
            del plain[f.name]
    return plain


_SCALARS = (str, int, float, type(None))


def check_positive(config: Any, *names: str) -> None:
    """Raise `BadConfig` unless each named field is above zero and within its bound (None passes).

    Bounds are those of `limits.MOST`.
    """
    for name in names:
        value = getattr(config, name)
        if value is None:
            continue
        if not value > 0:
            raise BadConfig(f"{name} must be above 0, not {value}")
        check_most(name, value)


def check_share(config: Any, *names: str, below_one: bool = False) -> None:
    """Raise `BadConfig` unless each named field lies in [0, 1], or in [0, 1)."""
    for name in names:
        value = getattr(config, name)
        if not 0 <= value <= 1 or (below_one and value == 1):
            raise BadConfig(f"{name} must lie in [0, 1{')' if below_one else ']'}, not {value}")


def check_least(config: Any, *names: str, least: float = 0) -> None:
    """Raise `BadConfig` if a named field is less than it may be, by default negative."""
    asked = f"be at least {least}" if least else "not be negative"
    for name in names:
        if not getattr(config, name) >= least:
            raise BadConfig(f"{name} must {asked}, not {getattr(config, name)}")


def check_finite(values: Mapping[str, Any], owner: str) -> None:
    """Raise `BadConfig` unless each of some named values is a number, neither infinite nor nan."""
    for name, value in values.items():
        if not isinstance(value, numbers.Real) or not math.isfinite(value):
            raise BadConfig(f"{owner}: {name} must be a number, not {value!r}")


def check_keys(values: Iterable[str], known: Sequence[str], owner: str) -> None:
    """Raise `BadConfig` for the first name that is not known."""
    for key in values:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"
            raise BadConfig(f"{owner} has no setting {key!r} ({hint})")


def check_choice(config: Any, name: str, choices: tuple[str, ...]) -> None:
    """Raise `BadConfig` unless the named field is one of `choices`."""
    value = getattr(config, name)
    if value not in choices:
        raise BadConfig(f"{name} must be one of {', '.join(choices)}, not {value!r}")


def _convert(value: Any, hint: Any, where: str) -> Any:
    if typing.get_origin(hint) is typing.Literal:
        if value in typing.get_args(hint):
            return value
        choices = ", ".join(map(str, typing.get_args(hint)))
        raise BadConfig(f"{where} must be one of {choices}, not {value!r}")
    unions = (types.UnionType, typing.Union)
    options = typing.get_args(hint) if typing.get_origin(hint) in unions else (hint,)
    # Text would take the word as it is.
    for option in sorted(options, key=lambda option: option is not type(None)):
        try:
            return _as_type(value, option)
        except (ValueError, TypeError):
            continue
    expected = " or ".join("none" if o is type(None) else o.__name__ for o in options)
    raise BadConfig(f"{where} must be {expected}, not {value!r}")


def _as_type(value: Any, wanted: type) -> Any:
    if getattr(value, "shape", None) == ():  # a number of NumPy's
        value = value.item()
    if wanted is type(None):
        if value is None or value == "none":
            return None
        raise ValueError
    if wanted is bool:
        if isinstance(value, bool):
            return value
        return {"true": True, "false": False}[value] if value in ("true", "false") else _refuse()
    if wanted is int:
        if isinstance(value, (bool, float)):
            raise ValueError
        return int(value)
    if wanted is float:
        if isinstance(value, bool):
            raise ValueError
        number = float(value)
        return number if math.isfinite(number) else _refuse()
    if wanted is str and isinstance(value, str):
        return value
    raise ValueError


def _refuse() -> Any:
    raise ValueError
