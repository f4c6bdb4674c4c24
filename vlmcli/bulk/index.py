"""What a run has to remember of every picture, on the disk: memory stays flat over millions."""

import sqlite3
from hashlib import blake2b

from vlmcli.errors import OutputError

_CACHE_KB = 8192


class Index:
    """Numbers by keys; a key is a kind and texts. It lives in a nameless file, gone at the end."""

    def __init__(self) -> None:
        self._base = sqlite3.connect("", isolation_level=None)
        self._base.execute(f"PRAGMA cache_size = -{_CACHE_KB}")
        self._base.execute("PRAGMA journal_mode = OFF")
        self._base.execute("PRAGMA synchronous = OFF")
        self._base.execute("CREATE TABLE seen (key BLOB PRIMARY KEY, number INT) WITHOUT ROWID")
        self._base.execute("BEGIN")  # never ended: no one else looks, and nothing is to be kept

    def put(self, number: int, kind: str, *texts: str) -> None:
        self._do("INSERT OR REPLACE INTO seen VALUES (?, ?)", _key(kind, texts), number)

    def get(self, kind: str, *texts: str) -> int | None:
        rows = self._do("SELECT number FROM seen WHERE key = ?", _key(kind, texts))
        return rows[0][0] if rows else None

    def remove(self, kind: str, *texts: str) -> None:
        self._do("DELETE FROM seen WHERE key = ?", _key(kind, texts))

    def close(self) -> None:
        self._base.close()

    def _do(self, statement: str, *values: object) -> list[tuple[int]]:
        try:
            return self._base.execute(statement, values).fetchall()
        except sqlite3.OperationalError as error:
            hint = "TMPDIR names a folder with more room"
            raise OutputError(f"a temporary file: {error}", hint=hint) from error


def _key(kind: str, texts: tuple[str, ...]) -> bytes:
    # Of each text its length too, so that no two lists of texts are one; as file formats keep them.
    digest = blake2b(kind.encode(), digest_size=16)
    for text in texts:
        data = text.encode("utf-8", "backslashreplace")
        digest.update(b"%d:" % len(data) + data)
    return digest.digest()
