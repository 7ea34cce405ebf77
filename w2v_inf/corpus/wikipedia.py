"""Articles of `wikimedia/wikipedia`, from the Hugging Face hub or local parquet or arrow files.

Decisions:
- pyarrow reads local files, a few hundred articles at a time. `datasets` streams from the hub, and
  is imported only then. Only the encoded corpus is kept.
- cleaning=text8 first folds accents (compatibility decomposition without marks), so "café" becomes
  "cafe" and not "caf". Every character other than a-z or a digit is then a blank. A text that would
  lose most of its letters is refused.
- cleaning=unicode keeps words by Unicode's definition (UTS #18, `\\w` of the package regex):
  letters with their combining marks and joiners, decimal digits and underscores. Python's own `\\w`
  has no marks, and would cut vocalised Arabic and Hebrew, Devanagari and Thai.
- Lower case is Unicode's, but U+0130 (capital I with a dot) becomes i, as in the languages that
  have it. Unicode's own answer, i with a combining dot, would be another word than i.
- Scripts without blanks between words (Chinese, Japanese, Thai) need another program first.
- One article is one line.
"""

import json
import logging
import re
import unicodedata
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import regex

from w2v_inf.config import Cleaning
from w2v_inf.corpus.download import CorpusUnavailable
from w2v_inf.corpus.wikifil import spell_letters
from w2v_inf.errors import UserError
from w2v_inf.system_errors import raise_if_refused

VERSIONS = {Cleaning.text8: "1", Cleaning.unicode: "2"}
HUB_NAME = "wikimedia/wikipedia"
_MARKS = re.compile("[\u0300-\u036f]")
_ASCII = re.compile("[\0-\x7f]+")
_JOINERS = "\u200c\u200d"
_WORD = regex.compile(rf"[^\W\p{{M}}{_JOINERS}]\w*")
_LAST_JOINERS = re.compile(f"[{_JOINERS}]+(?= |$)")
_ENOUGH_LETTERS = 1_000_000
_SPLIT = re.compile(r"(?:^|[-_.])(train|validation|valid|val|dev|test)(?=[-_.])")
_BATCH_ROWS = 256
log = logging.getLogger(__name__)


def clean_text8(text: str) -> bytes:
    """Words of a-z and spelled-out digits between blanks; accents folded."""
    return spell_letters(_fold_accents(text).encode(errors="replace"))


def _fold_accents(text: str) -> str:
    return text if text.isascii() else _MARKS.sub("", unicodedata.normalize("NFKD", text))


def clean_unicode(text: str) -> bytes:
    """Lower-cased words of any script, with their marks, between blanks."""
    lower = unicodedata.normalize("NFC", text).replace("\u0130", "i").lower()
    return _LAST_JOINERS.sub("", " ".join(_WORD.findall(lower))).encode(errors="replace")


def clean_articles(texts: Iterator[str], cleaning: Cleaning, max_documents: int) -> Iterator[bytes]:
    """One clean line per article, of the first `max_documents` articles (0: all).

    Raises: UserError if text8's cleaning drops most letters of the text.
    """
    some = islice(texts, max_documents or None)
    lines = map(clean_unicode, some) if cleaning is Cleaning.unicode else _clean_latin(some)
    return (line + b"\n" for line in lines)


def _clean_latin(texts: Iterator[str]) -> Iterator[bytes]:
    """`clean_text8` of each text, with a watch on the letters that it drops."""
    kept = dropped = 0
    for text in texts:
        yield (line := clean_text8(text))
        kept += len(line) - line.count(b" ")
        if not text.isascii():
            others = _ASCII.sub("", _fold_accents(text))
            dropped += sum(map(str.isalpha, others))
        if kept + dropped > _ENOUGH_LETTERS:
            _check_latin(kept, dropped)
    _check_latin(kept, dropped)
    if 10 * dropped > kept + dropped:
        log.warning("corpus.cleaning=text8 dropped %s", _share(kept, dropped))


def _check_latin(kept: int, dropped: int) -> None:
    if dropped > kept:
        raise UserError(
            f"corpus.cleaning=text8 keeps the letters a to z, and would drop "
            f"{_share(kept, dropped)}: take corpus.cleaning=unicode"
        )


def _share(kept: int, dropped: int) -> str:
    share = 100 * dropped / (kept + dropped)
    return f"{share:.0f} % of the letters of this text, which are not Latin"


def list_files(path: Path) -> list[Path]:
    """The file itself, or the .parquet and .arrow files of a folder by name.

    Of a folder that `datasets.save_to_disk` wrote, the files that its own state.json lists.
    Raises: UserError if there is none, or if the folder holds the same text in two formats, or
      several splits.
    """
    if (path / "dataset_dict.json").is_file():
        names = ", ".join(file.parent.name for file in sorted(path.glob("*/state.json")))
        raise _several_splits(path, f"has the splits {names}: give the folder of one of them")
    if (path / "state.json").is_file():
        return _saved_files(path)
    found = sorted(file for file in path.glob("*") if not file.name.startswith("."))
    files = [path] if path.is_file() else [f for f in found if f.suffix in (".parquet", ".arrow")]
    if not files or any(file.suffix not in (".parquet", ".arrow") for file in files):
        raise UserError(
            f"corpus.path must be a .parquet or .arrow file, or a folder of them, got {path}"
        )
    _check_one_text(path, files)
    return files


def _saved_files(folder: Path) -> list[Path]:
    """The files of a saved data set; cache-*.arrow beside them hold results of map and filter."""
    state = folder / "state.json"
    try:
        content = json.loads(state.read_bytes())
        files = [folder / Path(entry["filename"]).name for entry in content["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise_if_refused(state, error)
        raise UserError(f"{state} is damaged ({error!r}): save the data set again") from error
    missing = [file.name for file in files if not file.is_file()]
    if not files or missing:
        what = f"lists {missing[0]}, which is missing" if missing else "lists no file"
        raise UserError(f"{state} {what}: save the data set again")
    if content.get("_indices_data_files"):
        raise UserError(f"{state} selects rows of its files: call flatten_indices() and save again")
    return files


def _check_one_text(folder: Path, files: list[Path]) -> None:
    """Refuse files that are not one text when they are read one after the other."""
    names = [file.name for file in files]
    if len({file.suffix for file in files}) > 1:
        what = "has both .parquet and .arrow files: give the files of one kind"
        raise UserError(f"corpus.path must be the files of one text, {folder} {what}")
    splits = sorted({match[1] for name in names if (match := _SPLIT.search(name))})
    if len(splits) > 1:
        what = f"has the splits {', '.join(splits)}: give one file, or a folder of one split"
        raise _several_splits(folder, what)
    cached = [name for name in names if name.startswith("cache-")]
    if cached and len(cached) < len(names):
        what = f"also has {cached[0]}, as datasets names results of map and filter"
        raise UserError(
            f"corpus.path must be the files of one text, {folder} {what}: give one file, "
            "or a folder that save_to_disk wrote"
        )


def _several_splits(folder: Path, what: str) -> UserError:
    return UserError(f"corpus.path must be one split of a data set, {folder} {what}")


def read_files(files: list[Path]) -> Iterator[str]:
    """Articles of local files, in order.

    Raises: UserError if a file is damaged or has no column `text` of strings.
    """
    for file in files:
        try:
            for batch in _read_batches(file):
                batch.validate(
                    full=True
                )  # damaged offsets and bytes would surface as all kinds of errors further on
                yield from (text for text in batch.column("text").to_pylist() if text)
        except (pa.ArrowException, OSError) as error:
            raise_if_refused(file, error)
            raise UserError(
                f"{file} is damaged or cut short ({str(error).splitlines()[0]}): download it again"
            ) from error


def _read_batches(file: Path) -> Iterator[pa.RecordBatch]:
    if file.suffix == ".parquet":
        with pq.ParquetFile(file) as parquet:
            _check_column(parquet.schema_arrow, file)
            yield from parquet.iter_batches(_BATCH_ROWS, columns=["text"])
        return
    # No memory map: if the file is cut meanwhile, that ends in a signal, not in an error.
    with pa.OSFile(str(file)) as source:
        reader = _open_arrow(source)
        _check_column(reader.schema, file)
        is_stream = isinstance(reader, pa.ipc.RecordBatchStreamReader)
        yield from reader if is_stream else map(reader.get_batch, range(reader.num_record_batches))


def _open_arrow(source: Any) -> Any:
    """Arrow has two containers: `datasets` writes the stream, Feather is the file."""
    try:
        return pa.ipc.open_file(source)
    except pa.ArrowInvalid:
        source.seek(0)
        return pa.ipc.open_stream(source)


def _check_column(schema: pa.Schema, file: Path) -> None:
    if "text" not in schema.names:
        raise UserError(f"{file} must have a column 'text', has {', '.join(schema.names)}")
    kind = schema.field("text").type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise UserError(f"{file}: column 'text' must hold strings, holds {kind}")


def stream_hub(snapshot: str) -> Iterator[str]:
    """Articles of a snapshot such as 20231101.en, as the hub sends them.

    Raises: CorpusUnavailable if the hub cannot be reached; UserError if it has no such snapshot.
    """
    import datasets

    # It warns at every attempt; a failure is raised anyway.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    where = f"https://huggingface.co/datasets/{HUB_NAME} ({snapshot})"
    try:
        articles: Any = datasets.load_dataset(HUB_NAME, snapshot, split="train", streaming=True)
        for article in articles.select_columns("text"):
            yield article["text"]
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"corpus.snapshot={snapshot} must name a snapshot of {HUB_NAME}: {reason}"
        ) from error
    # Several http libraries below raise their own exceptions; none is a bug of ours.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CorpusUnavailable(
            f"{where} cannot be read ({reason}): give local files with corpus.path"
        ) from error
