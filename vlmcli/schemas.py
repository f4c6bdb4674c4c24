"""JSON schemas: how a user writes them, what of them can be kept to, and whether a text does.

A schema is passed on as JSON text. llguidance, which holds a model to it, says what it can keep to;
it is imported where a schema is given, and nowhere else.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vlmcli.errors import UsageError, shown

Schema = dict[str, Any]

_TYPES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
_FIELD = re.compile(r"(\S+?)(?:\s+(\[?)\s*(\w+)\s*(\]?))?")
_EXAMPLE = "for example 'name, age int, tags [str]'"

# Compact, and as models write it; blanks that are free to come would come without end.
_LAYOUT: Any = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
# Where a schema holds other ones: by name, in a list, or one.
_SHARED = ("$defs", "definitions")
_NAMED, _LISTED = ("properties", *_SHARED), ("prefixItems", "anyOf", "oneOf", "allOf")
_SINGLE = ("items", "additionalProperties")


def parse(text: str) -> str:
    """A schema that is written as JSON, as the name of a file, or as 'name, age int, tags [str]'.

    Raises UsageError, which says where, for what is no schema or cannot be kept to.
    """
    return _checked(_read(text))


def parse_multi(text: str) -> str:
    """As `parse`, for any number of what the schema says: {"items": [...]}."""
    one = _read(text)
    # References are to what is at the top.
    shared = {key: one.pop(key) for key in _SHARED if key in one}
    return _checked(_object({"items": {"type": "array", "items": one}}) | shared)


def validate(text: str, schema: str) -> bool:
    """Whether a text is JSON of the schema, to the letter as a model is made to write it."""
    import llguidance

    tokens = llguidance.LLTokenizer("byte")
    matcher = llguidance.LLMatcher(tokens, grammar(schema), log_level=0)
    letters = tokens.tokenize_bytes(text.encode())
    return bool(matcher.try_consume_tokens(letters) == len(letters) and matcher.is_accepting())


def grammar(schema: str) -> str:
    """What llguidance holds a model to: of what the schema allows, that which it is about."""
    from llguidance import LLMatcher

    whole = json.loads(schema)
    parts = list(_parts(whole))
    if not any("allOf" in part for _, part in parts):  # each part of which knows some members only
        for _, part in parts:
            _narrow(part)
    return LLMatcher.grammar_from_json_schema(json.dumps(whole), overrides=_LAYOUT)


def _read(text: str) -> Schema:
    text = text.strip()
    if text.startswith(("{", "[")):
        return _from_json(text, "")
    if _is_file(text):
        try:
            return _from_json(Path(text).read_text(encoding="utf-8"), f"{shown(text)}: ")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{shown(text)}: {error}") from error
    if text.lower().endswith(".json") or "/" in text.split("\n")[0].split(",")[0].split(":")[0]:
        raise UsageError(f"no such file: {shown(text)}", hint=f"or write it out, {_EXAMPLE}")
    return _from_fields(text)


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long for a name
        return False


def _from_json(text: str, where: str) -> Schema:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}not JSON: {error}", hint=f"or in short: {_EXAMPLE}") from error
    if not isinstance(found, dict):
        raise UsageError(f"{where}a schema is a JSON object", hint='such as {"type": "object"}')
    return found


def _from_fields(text: str) -> Schema:
    """Of fields on lines of their own or between commas, each a name, a type and ": what it is"."""
    fields = [field for line in text.splitlines() for field in _cut(line, "\n" in text)]
    members: dict[str, Schema] = {}
    for field in fields:
        name, member = _field(field)
        if name in members:
            raise UsageError(f"the field {name!r} is there twice", hint=_EXAMPLE)
        members[name] = member
    if not members:
        raise UsageError("no field is named", hint=_EXAMPLE)
    return _object(members)


def _cut(line: str, by_lines: bool) -> list[str]:
    parts = [line.strip().rstrip(",")] if by_lines else line.split(",")
    return [part for part in parts if part.strip()]


def _field(text: str) -> tuple[str, Schema]:
    words, colon, description = text.partition(":")
    found = _FIELD.fullmatch(words.strip())
    if found is None or bool(found[2]) != bool(found[4]):
        raise UsageError(f"{text.strip()!r} is no field", hint=_EXAMPLE)
    kind = found[3] or "str"
    if kind not in _TYPES:
        raise UsageError(
            f"{text.strip()!r}: no type is called {kind!r}", hint=f"{', '.join(_TYPES)}, [str], …"
        )
    member: Schema = {"type": _TYPES[kind]}
    if found[2]:
        member = {"type": "array", "items": member}
    if colon and description.strip():
        member["description"] = description.strip()
    return found[1], member


def _object(members: Mapping[str, Schema]) -> Schema:
    return {
        "type": "object",
        "properties": dict(members),
        "required": list(members),
        "additionalProperties": False,
    }


def _checked(schema: Schema) -> str:
    text = json.dumps(schema, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError("the schema is not valid UTF-8", hint="type it anew") from error
    if fault := _fault(text):
        place, fault = _place_of(schema, fault)
        raise UsageError(f"at {place}: {fault}", hint="leave that out, or say it otherwise")
    return text


def _fault(schema: str) -> str:
    from llguidance import LLMatcher

    try:
        failed, messages = LLMatcher.validate_grammar_with_warnings(grammar(schema))
    except (ValueError, AttributeError, TypeError) as error:
        return str(error)
    fault = " ".join(messages[0].split()) if failed else ""
    return fault.replace("Unimplemented keys:", "an answer cannot be held to")[:300]


def _place_of(schema: Schema, fault: str) -> tuple[str, str]:
    """The innermost part that cannot be kept to by itself, and what is wrong with it there."""
    place = "the top"
    shared = {key: schema[key] for key in _SHARED if key in schema}
    for path, part in _parts(schema):
        alone = part if part is schema else {**shared, **part}
        if inner := _fault(json.dumps(alone)):
            place, fault = path or place, inner
    return place, fault


def _parts(schema: Any, path: str = "") -> Iterator[tuple[str, Schema]]:
    """A schema and all that are in it, from the outside in, each with where it stands."""
    if not isinstance(schema, dict):
        return
    yield path, schema
    for key in _NAMED:
        if isinstance(inner := schema.get(key), dict):
            for name, one in inner.items():
                yield from _parts(one, f"{path}/{key}/{name}")
    for key in _LISTED:
        if isinstance(inner := schema.get(key), list):
            for number, one in enumerate(inner):
                yield from _parts(one, f"{path}/{key}/{number}")
    for key in _SINGLE:
        yield from _parts(schema.get(key), f"{path}/{key}")


def _narrow(schema: Schema) -> None:
    """What has members is an object, and no others come where nothing is said of them."""
    members = schema.get("properties")
    more = ("additionalProperties", "patternProperties", "unevaluatedProperties", "$ref")
    if not isinstance(members, dict) or any(key in schema for key in (*more, "anyOf", "oneOf")):
        return
    required = schema.get("required", [])
    if isinstance(required, list) and set(map(str, required)) <= members.keys():
        schema.setdefault("type", "object")
        schema["additionalProperties"] = False
