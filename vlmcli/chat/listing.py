"""The list that `vlm chat --list` prints."""

from pathlib import Path

from vlmcli import output
from vlmcli.chat import store
from vlmcli.errors import UsageError
from vlmcli.output import Column
from vlmcli.settings import Settings

_COLUMNS = (
    Column("ID", style="cyan"),
    Column("LAST USED", spare=2, below="{}"),
    Column("TURNS", right=True, spare=3, below="{} turns"),
    Column("MODEL", spare=4),
    Column("FIRST QUESTION", spare=1, below="{}"),
)
_QUESTION_CHARACTERS = 60


def show(settings: Settings) -> None:
    """Print the chats that are kept; that which -c goes on with comes first."""
    rows = [facts for path in store.paths() if (facts := _facts(path))]
    if settings.json:
        for facts in rows:
            output.record(facts)
    elif rows:
        output.table(_COLUMNS, [_cells(facts) for facts in rows])
    else:
        output.note("no chat is kept yet; vlm chat begins one")


def _facts(path: Path) -> dict[str, object]:
    """What is told of a chat; nothing of a file that is none."""
    model, questions = "", list[str]()
    try:
        for event in store.events(path):
            match event["event"]:
                case "begun" | "settings":
                    model = str(event.get("model") or model)
                case "asked":
                    questions.append(store.words_of(event.get("content")))
                case "taken back":
                    del questions[-1:]
        used_s = path.stat().st_mtime
    except (OSError, UsageError):
        return {}
    return {
        "id": path.stem,
        "used": used_s,
        "turns": len(questions),
        "model": model,
        "question": questions[0] if questions else "",
        "file": str(path),
    }


def _cells(facts: dict[str, object]) -> list[str]:
    question = str(facts["question"])
    if len(question) > _QUESTION_CHARACTERS:
        question = f"{question[: _QUESTION_CHARACTERS - 1]}…"
    used = output.ago(float(str(facts["used"])))
    return [str(facts["id"]), used, str(facts["turns"]), str(facts["model"]), question]
