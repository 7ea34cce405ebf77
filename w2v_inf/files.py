"""Reading and writing small files; every file, and every folder, appears whole or not at all.

Writers fill a draft beside the target, which is then synced and renamed.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from w2v_inf.errors import UserError
from w2v_inf.system_errors import raise_if_refused, system_error


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a draft in the folder of `path`, sync it to disk and rename it to `path`.

    The folder is made if necessary.
    Raises: UserError if the folder cannot be written or is full; no draft is left behind.
    """
    # The suffix stays, because some writers choose the format by it.
    draft = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.touch()
        mode = draft.stat().st_mode
        write(draft)
        draft.chmod(mode)  # as the umask says: safetensors makes files for their owner alone
        sync(draft)
        os.replace(draft, path)
        sync(path.parent)
    except (OSError, SafetensorError) as error:
        raise system_error(path, error, "written") from error
    finally:
        with suppress(OSError):  # above all no such folder
            draft.unlink(missing_ok=True)


def write_folder(folder: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a draft beside `folder` with files, sync it and put it in its place.

    A folder that is there is replaced whole: it gets a hidden name, the draft takes its place, and
    then it is deleted. Only a power cut between the two renamings can leave it hidden.
    Raises: UserError if the folder cannot be written or the disk is full; no draft is left behind,
      and an earlier folder stays.
    """
    draft = folder.with_name(f".{os.getpid()}-{folder.name}")
    try:
        shutil.rmtree(draft, ignore_errors=True)  # of a killed process that had this number
        draft.mkdir(parents=True)
        write(draft)
        for file in draft.iterdir():
            file.chmod(draft.stat().st_mode & 0o666)  # as the umask says (`write_atomically`)
            sync(file)
        sync(draft)
        _put_in_place(draft, folder)
        sync(folder.parent)
    except (OSError, SafetensorError) as error:
        raise system_error(folder, error, "written") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _put_in_place(draft: Path, folder: Path) -> None:
    """Rename a draft to `folder`, which may exist."""
    if not folder.exists():
        draft.rename(folder)
        return
    old = draft.with_name(f"{draft.name}-old")
    shutil.rmtree(old, ignore_errors=True)
    folder.rename(old)
    try:
        draft.rename(folder)
    except BaseException:
        old.rename(folder)
        raise
    shutil.rmtree(old)


def sync(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """Hex digest of the file's bytes; 0.06 to 0.3 s per 100 MB."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file; numbers must be finite."""
    write_atomically(
        path, lambda draft: draft.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")
    )


def read_text(path: Path) -> str:
    """Read a file of a run, UTF-8. Raises: UserError if it is missing or damaged."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(f"{path.absolute()} not found: run w2v-inf train first") from error
    except OSError as error:
        raise system_error(path, error, "read") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is damaged ({str(error).splitlines()[0]}): train the run again"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises: UserError if it is missing or damaged."""
    try:
        value = json.loads(read_text(path))
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): train the run again") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} is damaged (no JSON object): train the run again")
    return value


@contextmanager
def reading_arrays(path: Path, advice: str) -> Iterator[Any]:
    """The arrays of an .npz file by name, for a block that takes and checks them.

    Raises: UserError that ends with `advice` for a missing or damaged file, or if the block raises.
    """
    try:
        # Opened here, because numpy leaves a damaged file open.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            yield arrays
    # On damaged bytes, zipfile and numpy raise a dozen kinds, some without a message.
    except Exception as error:
        raise_if_refused(path, error)
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path} is missing or damaged ({reason}): {advice}") from error
