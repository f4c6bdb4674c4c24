"""The words that vlm puts into a conversation: captions, the language, the system prompt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from vlmcli import messages, wording
from vlmcli.messages import Image, Message, Text

PICTURE = Image("photo.png", Pillow.new("RGB", (4, 4)), "00")

texts = st.text(min_size=1)


def test_every_caption_style_has_a_prompt_of_its_own() -> None:
    prompts = {style: wording.caption(style).text for style in wording.CAPTION_STYLES}
    assert set(prompts) == {"short", "detailed", "alt", "tags", "story"}
    assert len(set(prompts.values())) == len(prompts)
    assert all("image" in prompt for prompt in prompts.values())


@pytest.mark.parametrize("style", wording.CAPTION_STYLES)
def test_a_caption_prompt_is_marked_with_its_style(style: str) -> None:
    assert wording.caption(style).caption_style == style


@pytest.mark.parametrize(
    ("language", "request_text"),
    [
        ("ja", "Answer in Japanese (日本語)."),
        ("DE", "Answer in German (Deutsch)."),
        ("en", "Answer in English."),
        ("Latin", "Answer in Latin."),
        ("pt-BR", "Answer in pt-BR."),
        ("日本語", "Answer in 日本語."),
    ],
)
def test_a_language_is_asked_for_by_code_or_by_any_name(language: str, request_text: str) -> None:
    (message,) = wording.in_language([messages.user("What?", [PICTURE])], language)
    assert message == messages.user(f"What?\n{request_text}", [PICTURE])


@pytest.mark.parametrize("code", wording.LANGUAGES)
def test_every_code_is_asked_for_by_a_name_and_not_by_the_code(code: str) -> None:
    (message,) = wording.in_language([messages.user("?")], code)
    assert message.texts == (f"?\nAnswer in {wording.LANGUAGES[code]}.",)
    assert wording.LANGUAGES[code][0].isupper()


@given(st.lists(texts, max_size=3), texts)
def test_only_the_last_message_asks_for_the_language(before: list[str], last: str) -> None:
    earlier = [messages.user(words) for words in before]
    *kept, asked = wording.in_language([*earlier, messages.user(last)], "fr")
    assert kept == earlier
    assert asked.texts == (f"{last}\nAnswer in French (français).",)


def test_the_request_follows_a_picture_that_comes_last() -> None:
    asked = Message("user", (Text("What is this?"), PICTURE))
    (message,) = wording.in_language([asked], "it")
    assert message.content == (*asked.content, Text("Answer in Italian (italiano)."))


def test_a_message_of_pictures_alone_still_asks_for_the_language() -> None:
    (message,) = wording.in_language([Message("user", (PICTURE,))], "it")
    assert message.content == (PICTURE, Text("Answer in Italian (italiano)."))


@given(texts)
def test_the_system_prompt_comes_first_and_the_rest_is_kept(system: str) -> None:
    conversation = [messages.user("What?", [PICTURE])]
    expected = [messages.system(system), *conversation]
    assert wording.instructed(conversation, system, None) == expected


def test_the_language_goes_into_the_question_and_not_into_the_system_prompt() -> None:
    system, asked = wording.instructed([messages.user("What?")], "Be brief.", "nl")
    assert system == messages.system("Be brief.")
    assert asked.texts == ("What?\nAnswer in Dutch (Nederlands).",)


def test_without_instructions_a_conversation_stays_as_it_is() -> None:
    conversation = [messages.user(wording.caption("alt"), [PICTURE])]
    assert wording.instructed(conversation, None, None) == conversation
