"""Records as JSON lines -> a Parquet table, and back. The only place that knows pyarrow."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from vlmcli import output, transcript, writing
from vlmcli.bulk.records import COLUMNS, LINES, Record, record_of, row_of
from vlmcli.errors import UsageError

if TYPE_CHECKING:
    import pyarrow

_ROWS = 5_000  # of a row group: what is in memory at once


def lines_of(path: Path) -> Path:
    """A file beside the table that holds its records as lines, to be added to.

    What a killed run left is gone on with. Raises UsageError if the table is none of ours, or
    pyarrow is missing.
    """
    _schema()
    lines = path.with_name(f"{path.name}.jsonl")
    if path.exists() and not lines.exists():
        with writing.replaced(lines) as out:
            for record in _records(path):
                out.write(LINES.write(record).encode())
    return lines


def pack(path: Path) -> None:
    """Write the table anew, of all lines, which go. Raises OutputError, and nothing is changed."""
    from pyarrow import RecordBatch
    from pyarrow.parquet import ParquetWriter

    lines, schema = lines_of(path), _schema()
    if not lines.exists():
        return
    status = output.status(f"writing {path.name}")
    with status, lines.open("rb") as file, writing.replaced(path) as out:
        records = (LINES.read(block) for block, _ in LINES.blocks(file))
        rows = (row_of(record) for record in records if record is not None)
        with ParquetWriter(out, schema, compression="zstd") as writer:
            while some := list(islice(rows, _ROWS)):
                writer.write_batch(RecordBatch.from_pylist(some, schema))
    lines.unlink()


def _schema() -> "pyarrow.Schema":
    try:
        import pyarrow
    except ImportError as error:
        raise UsageError(
            "-o: Parquet needs one more package", hint='pip install "vlmcli[parquet]"'
        ) from error
    kinds = {"int": pyarrow.int64(), "float": pyarrow.float64()}  # texts, and JSON as text
    columns = COLUMNS.items()
    return pyarrow.schema([(n, kinds.get(kind.__name__, pyarrow.string())) for n, kind in columns])


def _records(path: Path) -> Iterator[Record]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with path.open("rb") as file, ParquetFile(file) as table:
            if table.schema_arrow.names != [*COLUMNS]:
                raise transcript.unusable(path, "its columns are not those that vlm writes")
            for batch in table.iter_batches(_ROWS):
                for number, row in enumerate(batch.to_pylist(), 1):
                    if (record := record_of(row)) is None:
                        raise transcript.unusable(path, f"its row {number} is not as vlm writes it")
                    yield record
    except (ArrowException, OSError) as error:
        raise transcript.unusable(path, "it cannot be read as Parquet") from error
