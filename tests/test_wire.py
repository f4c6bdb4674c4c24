"""Conversations as JSON: nothing is lost on the way, and what is malformed is named."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from vlmcli import wire
from vlmcli.errors import InputError
from vlmcli.messages import Image, Message, Text

PIXELS = Pillow.new("RGB", (2, 3), "red")

texts = st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip) | st.sampled_from(
    [
        "写真には何が写っていますか？",
        "👩‍👩‍👧 🇯🇵",
        "<image>\n<|im_end|>",
        "[INST]",
        '{"role": "user"}',
        "\\n",
    ]
)


def read_image(name: str) -> Image:
    return Image(name, PIXELS, hashlib.sha256(name.encode()).hexdigest())


def missing(name: str) -> Image:
    raise InputError(f"{name}: no such file", hint="look in the other folder")


parts = texts.map(Text) | texts.map(read_image)
contents = st.lists(parts, min_size=1, max_size=4).map(tuple)


def turns(*roles: str) -> st.SearchStrategy[Message]:
    return st.builds(Message, st.sampled_from(roles), contents)


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    before = draw(st.lists(turns("system"), max_size=1))
    between = draw(st.lists(turns("user", "assistant"), max_size=3))
    return [*before, *between, draw(turns("user"))]


# --- there and back ---


@given(conversations())
def test_a_conversation_comes_back_from_json_as_it_was(conversation: list[Message]) -> None:
    document = json.dumps(wire.to_json(conversation))
    assert wire.from_json(json.loads(document), read_image) == conversation


@given(conversations())
def test_a_whole_request_body_is_read_like_its_messages(conversation: list[Message]) -> None:
    body = {"model": "any", "messages": wire.to_json(conversation), "temperature": 0}
    assert wire.from_json(body, read_image) == conversation


def test_the_json_is_the_hubs_chat_format() -> None:
    conversation = [Message("user", (read_image("a.png"), Text("What?")))]
    content = [{"type": "image", "image": "a.png"}, {"type": "text", "text": "What?"}]
    assert wire.to_json(conversation) == [{"role": "user", "content": content}]


def test_images_are_read_once_each_in_the_order_they_are_seen() -> None:
    asked: list[str] = []

    def reading(name: str) -> Image:
        asked.append(name)
        return read_image(name)

    names = ["b.png", "a.png", "b.png"]
    wire.from_json([user(*({"type": "image", "image": name} for name in names))], reading)
    assert asked == names


# --- the forms that others write ---


def user(*content: object) -> dict[str, object]:
    return {"role": "user", "content": list(content)}


def text(words: object = "Hi") -> dict[str, object]:
    return {"type": "text", "text": words}


def test_a_content_that_is_a_text_is_one_part() -> None:
    data = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "写真？"},
        {"role": "assistant", "content": "🐈"},
        {"role": "user", "content": "Sure?"},
    ]
    expected = [Message(turn["role"], (Text(turn["content"]),)) for turn in data]  # type: ignore[arg-type]
    assert wire.from_json(data, read_image) == expected


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "image": "http://127.0.0.1/a.png"},
        {"type": "image", "url": "http://127.0.0.1/a.png"},
        {"type": "image", "path": "http://127.0.0.1/a.png"},
        {"type": "image_url", "image_url": {"url": "http://127.0.0.1/a.png", "detail": "low"}},
        {"type": "image_url", "image_url": "http://127.0.0.1/a.png"},
    ],
    ids=["image", "url", "path", "openai", "openai as a text"],
)
def test_every_way_to_name_an_image_reads_that_image(part: dict[str, Any]) -> None:
    (message,) = wire.from_json([user(part, text("What?"))], read_image)
    assert message.content == (read_image("http://127.0.0.1/a.png"), Text("What?"))


def test_an_assistant_may_show_images_too() -> None:
    data = [
        user(text()),
        {"role": "assistant", "content": [{"type": "image", "image": "a.png"}]},
        user(text()),
    ]
    assert wire.from_json(data, read_image)[1].images == (read_image("a.png"),)


# --- malformed ---


@pytest.mark.parametrize(
    ("data", "where"),
    [
        ("Hi", "messages: not a list of messages"),
        (None, "messages: not a list of messages"),
        ({"role": "user", "content": "Hi"}, "messages: not a list of messages"),
        ([], "messages: not a list of messages"),
        ({"messages": []}, "messages: not a list of messages"),
        ({"messages": {"1": "Hi"}}, "messages: not a list of messages"),
        (["Hi"], "message 1: not an object"),
        ([user(text()), ["Hi"]], "message 2: not an object"),
        ([{"content": "Hi"}], "message 1: the role is None"),
        ([user(text()), {"role": "tool", "content": "Hi"}], "message 2: the role is 'tool'"),
        ([{"role": ["user"], "content": "Hi"}], "message 1: the role is ['user']"),
        ([{"role": "User", "content": "Hi"}], "message 1: the role is 'User'"),
        ([user(text()), {"role": "user"}], "message 2: the content is neither"),
        ([{"role": "user", "content": None}], "message 1: the content is neither"),
        ([user()], "message 1: the content is neither"),
        ([{"role": "user", "content": text()}], "message 1: the content is neither"),
        ([{"role": "user", "content": ""}], 'message 1, part 1: "text"'),
        ([user(text(), "Hi")], "message 1, part 2: the type is None"),
        ([user(text()), user(text(), text(), {"text": "Hi"})], "message 2, part 3: the type is"),
        ([user({"type": "video", "video": "a.mp4"})], "message 1, part 1: the type is 'video'"),
        ([user({"type": {"text": 1}})], "message 1, part 1: the type is {'text': 1}"),
        ([user(text(["Hi"]))], 'message 1, part 1: "text"'),
        ([user(text(5))], 'message 1, part 1: "text"'),
        ([user({"type": "text"})], 'message 1, part 1: "text"'),
        ([user(text(), text(""))], 'message 1, part 2: "text"'),
        (
            [user({"type": "image", "image": "a.png", "url": "b.png"})],
            "message 1, part 1: names 2 images",
        ),
        ([user(text(), {"type": "image"})], "message 1, part 2: names 0 images"),
        ([user({"type": "image", "image": {"url": "a.png"}})], 'message 1, part 1: "image"'),
        ([user({"type": "image", "path": ""})], 'message 1, part 1: "path"'),
        ([user({"type": "image_url"})], 'message 1, part 1: "image_url"'),
        (
            [user({"type": "image_url", "image_url": {"url": {"url": "a.png"}}})],
            'message 1, part 1: "image_url"',
        ),
        ([user({"type": "image_url", "image_url": ["a.png"]})], 'message 1, part 1: "image_url"'),
        (
            [user(text()), {"role": "system", "content": "Be brief."}, user(text())],
            "message 2: a system message comes first",
        ),
        (
            [{"role": "system", "content": "a"}, {"role": "system", "content": "b"}, user(text())],
            "message 2: a system message comes first",
        ),
        ([{"role": "system", "content": "a"}], "message 1: the last one is the system's"),
        (
            [user(text()), {"role": "assistant", "content": "Hi"}],
            "message 2: the last one is the assistant's",
        ),
    ],
)
def test_what_is_malformed_is_named_by_message_and_part(data: object, where: str) -> None:
    with pytest.raises(InputError) as caught:
        wire.from_json(data, read_image)
    assert caught.value.message.startswith(where)
    assert caught.value.hint


def test_an_image_that_cannot_be_read_is_named_with_where_it_stands() -> None:
    data = [user(text()), user(text(), {"type": "image", "image": "gone.png"})]
    with pytest.raises(InputError) as caught:
        wire.from_json(data, missing)
    assert caught.value.message == "message 2, part 2: gone.png: no such file"
    assert caught.value.hint == "look in the other folder"


def junk(*likely: object) -> st.SearchStrategy[Any]:
    """Any JSON value, often one of the likely ones."""
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    anything = st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=5,
    )
    return st.sampled_from(likely) | anything if likely else anything


def objects(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries({}, optional=fields) | junk()


def lists(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(items, max_size=3) | junk()


wild_parts = objects(
    type=junk("text", "image", "image_url"),
    text=junk("Hi"),
    image=junk("a.png"),
    url=junk("a.png"),
    image_url=objects(url=junk("a.png")),
)
wild_messages = objects(
    role=junk("user", "system", "assistant"), content=lists(wild_parts) | st.text()
)
wild = lists(wild_messages) | objects(messages=lists(wild_messages))


@given(data=wild, reader=st.sampled_from([read_image, missing]))
def test_any_json_at_all_is_a_conversation_or_an_input_error(
    data: object, reader: wire.ReadImage
) -> None:
    try:
        conversation = wire.from_json(data, reader)
    except InputError:
        return
    assert conversation[-1].role == "user"
    assert all(message.content for message in conversation)
    assert "system" not in roles(conversation[1:])


def roles(conversation: Sequence[Message]) -> list[str]:
    return [message.role for message in conversation]
