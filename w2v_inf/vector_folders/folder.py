"""What the folders of vectors have in common: their files, config.json, and checksums.

Decisions:
- config.json says what the folder is, and has the checksum of every file with words or numbers. So
  no damage is read in silence.
- A folder is replaced only if all of it was written by an earlier export. A file of the user's own
  in it is never deleted.
"""

import json
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from w2v_inf.config import VectorFormat
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.errors import UserError
from w2v_inf.files import sha256, write_folder
from w2v_inf.system_errors import raise_if_refused

CONFIG, LIBRARY, FORMAT_VERSION = "config.json", "w2v_inf", 1
TENSORS, WORDS, CARD = "model.safetensors", "vocab.json", "README.md"
VECTORS, METADATA, PROJECTOR = "vectors.tsv", "metadata.tsv", "projector_config.pbtxt"
DATA = {VectorFormat.hub: (TENSORS, WORDS), VectorFormat.projector: (VECTORS, METADATA)}
"""The files with checksums."""
FILES = {CONFIG, CARD, PROJECTOR, *DATA[VectorFormat.hub], *DATA[VectorFormat.projector]}
AGAIN = "export the run, or copy the folder, again"


def check_replaceable(folder: Path) -> None:
    """Raises: UserError if something is at `folder` that is not an earlier export, nor empty."""
    try:
        names = {path.name for path in folder.iterdir()}
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        raise UserError(
            f"export.out must be a folder, {folder} is a file: choose another name"
        ) from error
    advice = "choose another name"
    if names and CONFIG not in names:
        raise UserError(f"export.out={folder} holds no earlier export: {advice}")
    if names:
        try:
            read_config(folder)
        except UserError as error:
            raise UserError(f"export.out={folder} holds no earlier export: {advice}") from error
    if others := sorted(names - FILES):
        raise UserError(f"export.out={folder} holds a file of another kind ({others[0]}): {advice}")


def write(
    folder: Path,
    format: VectorFormat,
    vocab: Vocabulary,
    vectors: np.ndarray,
    facts: dict[str, Any],
    write_files: Callable[[Path], None],
) -> None:
    """Write a folder of vectors [V, D], whole or not at all; an earlier export is replaced.

    facts: about the vectors, for config.json.    write_files: writes all files but config.json.
    Raises: UserError if something else is at `folder`, or it cannot be written.
    """
    check_replaceable(folder)
    about = {
        "library": LIBRARY,
        "library_version": metadata.version(LIBRARY),
        "format": format.value,
        "format_version": FORMAT_VERSION,
        "vocab_size": len(vocab),
        "dimension": vectors.shape[1],
    }

    def fill(draft: Path) -> None:
        write_files(draft)
        sums = {name: sha256(draft / name) for name in DATA[format]}
        text = json.dumps(about | facts | {"sha256": sums}, indent=1, allow_nan=False)
        (draft / CONFIG).write_text(text + "\n", encoding="utf-8")

    write_folder(folder, fill)


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of an exported folder.

    Raises: UserError if it is missing or damaged, of another program, or of a later version.
    """
    path = folder / CONFIG
    config = read_json(path)
    if not isinstance(config, dict) or config.get("library") != LIBRARY:
        raise UserError(f"{path} is not of w2v_inf: give a folder that w2v-inf export wrote")
    if config.get("format") not in [format.value for format in DATA]:
        raise damaged(path, f"format={config.get('format')!r}")
    sizes = [config.get(name) for name in ("format_version", "vocab_size", "dimension")]
    sums = config.get("sha256")
    if not all(type(size) is int and size > 0 for size in sizes) or not isinstance(sums, dict):
        raise damaged(path, "no sizes or checksums")
    if config["format_version"] > FORMAT_VERSION:
        raise UserError(f"{path} was written by a later version of w2v_inf: update w2v_inf")
    return config


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises: UserError if it is missing or damaged."""
    check_readable(path)
    try:
        return json.loads(path.read_bytes().decode())
    except (ValueError, RecursionError) as error:
        raise damaged(path, error) from error


def check_readable(path: Path) -> None:
    """Raises: UserError if the file is missing or may not be read."""
    try:
        path.open("rb").close()
    except OSError as error:
        raise_if_refused(path, error)
        raise UserError(f"{path} cannot be read ({error.strerror}): {AGAIN}") from error


def check_whole(folder: Path, config: dict[str, Any], vocab: Vocabulary, table: np.ndarray) -> None:
    """Raises: UserError if words, vectors [V, D] and the checksums of their files disagree."""
    shape = (config["vocab_size"], config["dimension"])
    num_words = len(vocab)
    if table.shape != shape or num_words != shape[0]:
        raise UserError(
            f"{folder} must hold {shape[0]:,} words and {shape[0]:,} x {shape[1]:,} numbers, has "
            f"{num_words:,} words and {' x '.join(f'{size:,}' for size in table.shape)} numbers: "
            f"{AGAIN}"
        )
    for name in DATA[VectorFormat(config["format"])]:
        if sha256(folder / name) != config["sha256"].get(name):
            raise damaged(folder / name, f"its sha256 is not that in {CONFIG}")
    if not np.isfinite(table).all():
        raise damaged(folder, "a number is not finite")


def make_vocabulary(path: Path, words: list[str], counts: list[int]) -> Vocabulary:
    """Raises: UserError if `path` repeats a word, or its counts are not falling."""
    try:
        vocab = Vocabulary(words, np.array(counts, np.int64))
        "".join(words).encode()  # no half of a surrogate pair
    except (ValueError, OverflowError) as error:
        raise damaged(path, error) from error
    if len(vocab.id_of) != len(words) or "" in vocab.id_of:
        raise damaged(path, "a word is empty or comes twice")
    if len(counts) != len(words):
        raise damaged(path, f"{len(words):,} words, {len(counts):,} counts")
    if (np.diff(vocab.counts) > 0).any() or (vocab.counts < 0).any():
        raise damaged(path, "the counts are not falling")
    return vocab


def damaged(path: Path, reason: object) -> UserError:
    """The one line for a file of an export that cannot be right."""
    return UserError(f"{path} is damaged ({str(reason).splitlines()[0]}): {AGAIN}")
