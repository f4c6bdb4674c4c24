"""Schemas as users write them: what they become, and what is said of those that are none."""

import json
from pathlib import Path

import pytest

from vlmcli import schemas
from vlmcli.errors import UsageError


def members(text: str) -> dict[str, object]:
    schema = json.loads(schemas.parse(text))
    assert schema["required"] == [*schema["properties"]]
    assert schema["additionalProperties"] is False
    return schema["properties"]  # type: ignore[no-any-return]


def refusal(text: str) -> str:
    with pytest.raises(UsageError) as caught:
        schemas.parse(text)
    return str(caught.value)


def test_fields_are_written_in_short() -> None:
    assert members("name, age int, size float,ok bool, tags [str], sizes [ float ]") == {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "size": {"type": "number"},
        "ok": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "sizes": {"type": "array", "items": {"type": "number"}},
    }


def test_fields_on_lines_have_descriptions_with_commas() -> None:
    assert members("\nname: first, then last\nage int: in years\n") == {
        "name": {"type": "string", "description": "first, then last"},
        "age": {"type": "integer", "description": "in years"},
    }


def test_a_schema_is_read_from_a_file_and_as_json(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"é": {"enum": ["a", 1, None]}}}
    file = tmp_path / "a schema 🙂.json"
    file.write_text(json.dumps(schema))
    assert json.loads(schemas.parse(str(file))) == schema
    assert json.loads(schemas.parse(f" {json.dumps(schema)}\n")) == schema


def test_any_number_of_them_keeps_what_is_referred_to() -> None:
    text = '{"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer", "maximum": 5}}}'
    schema = schemas.parse_multi(text)
    assert schemas.validate('{"items": [1, 2]}', schema)
    assert not schemas.validate('{"items": [6]}', schema)
    assert schemas.validate('{"items": [{"a": "x"}]}', schemas.parse_multi("a"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("age foo", "no type is called 'foo'"),
        ("tags [str", "'tags [str' is no field"),
        ("a b c", "'a b c' is no field"),
        ("a, a int", "'a' is there twice"),
        (",", "no field is named"),
        ("{", "not JSON"),
        ("[1]", "a schema is a JSON object"),
        ("nowhere/x.json", "no such file: nowhere/x.json"),
        ('{"type": "strng"}', "at the top: Invalid type: strng"),
        (
            '{"type": "object", "properties": {"a": {"items": {"not": {}}}}}',
            'at /properties/a/items: an answer cannot be held to ["not"]',
        ),
        ('{"$ref": "#/$defs/n", "$defs": {"n": {"type": 5}}}', "at /$defs/n: "),
        ('{"type": "integer", "minimum": 3, "maximum": 1}', "minimum (3) is greater"),
        ('{"pattern": "(?=a)"}', "look-ahead"),
        ('{"$ref": "http://x/y"}', "http://x/y"),
        ('{"properties": 5}', "properties must be an object"),
    ],
)
def test_what_is_no_schema_is_named(text: str, said: str) -> None:
    assert said in refusal(text)


def test_a_file_that_holds_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{,}")
    (tmp_path / "y.json").write_bytes(b"\xff\xfe")
    assert "x.json: not JSON" in refusal(str(tmp_path / "x.json"))
    assert "y.json: " in refusal(str(tmp_path / "y.json"))


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ('{"a": "x", "n": 3}', True),
        ('{"a": "x"}', True),
        ('{"a": "x", "more": 3}', False),
        ('{"n": 3}', False),
        ('{"a": 3}', False),
        ('{"a": "x', False),
        ("", False),
        ("5", False),
    ],
)
def test_a_text_is_checked_against_a_schema(text: str, good: bool) -> None:
    schema = (
        '{"properties": {"a": {"type": "string"}, "n": {"type": "integer"}}, "required": ["a"]}'
    )
    assert schemas.validate(text, schema) is good


def test_members_that_parts_name_together_are_not_shut_out() -> None:
    part = '{{"properties": {{"{}": {{"type": "integer"}}}}, "required": ["{}"]}}'
    schema = f'{{"type": "object", "allOf": [{part.format("a", "a")}, {part.format("b", "b")}]}}'
    assert schemas.validate('{"a": 1, "b": 2}', schemas.parse(schema))
