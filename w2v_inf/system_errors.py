"""What the operating system refuses, in one line: the file, its reason, and what to do.

Decisions:
- One table has an advice for every reason that a user can mend. A file that may not be read is no
  damaged file, and nobody is told to delete what may be good.
- Reasons outside the table, such as a file that our own code misses, are bugs and stay exceptions.
"""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from w2v_inf.errors import UserError

NO_RIGHT = "ask its owner for the right, or choose another folder"
NO_LOCKS = "this file system has no such locks: choose a folder on a local disk"
ADVICE = {
    errno.EACCES: NO_RIGHT,
    errno.EPERM: NO_RIGHT,
    errno.EROFS: "choose a folder on a disk that can be written",
    errno.ENOSPC: "free some space or choose another folder",
    errno.EDQUOT: "free some space or choose another folder",
    errno.EFBIG: "the disk or `ulimit -f` allows no file of this size: choose another folder",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close other programs",
    errno.EIO: "the disk reports an error: check it, or choose another folder",
    errno.ESTALE: "the network file system has lost the file: try again",
    errno.ENOTCONN: "the network file system is away: try again",
    errno.ENOLCK: NO_LOCKS,
    errno.EOPNOTSUPP: "this file system cannot do that: choose a folder on a local disk",
    errno.ENOMEM: "free some memory or raise its limit (ulimit -v)",
    errno.ELOOP: "its links lead in a circle: choose another path",
}
"""Reasons that are no bug, wherever they come up."""
OF_PATHS = {
    errno.ENOENT: "it does not exist, or a folder above it does not: check the path",
    errno.ENOTDIR: "a part of the path is a file: choose another folder",
    errno.EISDIR: "it is a folder: give a file",
    errno.EEXIST: "a file of this name is in the way: choose another folder",
}
"""Reasons that are a user's mistake only if the path is his."""
OUT_OF_MEMORY = re.compile(
    r"can't allocate memory|not enough memory|Cannot allocate memory|out of memory"
    r"|failed to map segment|Unable to allocate|can't start new thread",
    re.I,
)
"""What torch, numpy and the loader of libraries say."""


def system_error(path: Path | str, error: Exception, doing: str) -> UserError:
    """The one line for `path`, a user's, that cannot be `doing`: read, written, locked."""
    number = _number(error)
    reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
    advice = (ADVICE | OF_PATHS).get(number, "choose another folder")
    if doing == "locked" and number in (errno.EBADF, errno.ENOSYS, errno.EINVAL):
        advice = NO_LOCKS  # what NFS and others say
    return UserError(f"{path} cannot be {doing} ({reason}): {advice}")


def raise_if_refused(path: Path, error: BaseException) -> None:
    """Raise the one line for a file that the system does not let us read.

    Returns otherwise: then the file is missing or damaged, which the caller can say better.
    """
    if isinstance(error, OSError) and error.errno in ADVICE:
        raise system_error(path, error, "read") from error


def _number(error: Exception) -> int:
    """The errno of an exception, also of a library in Rust; 0 if it has none."""
    if isinstance(error, OSError):
        return error.errno or 0
    found = re.search(r"\bcode: (\d+)", str(error))
    return int(found[1]) if found else 0


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of Python, numpy, torch or the loader says that memory is used up."""
    if isinstance(error, MemoryError) or getattr(error, "errno", 0) == errno.ENOMEM:
        return True
    return isinstance(error, RuntimeError | ImportError) and bool(OUT_OF_MEMORY.search(str(error)))


@contextmanager
def explained() -> Iterator[None]:
    """Turn what the system refuses inside into a UserError; other exceptions pass."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise UserError(
                "memory is used up, or limited by `ulimit -v` or a container: raise the limit, "
                "or lower corpus.max_vocab, model.width or stream.batch_size"
            ) from error
        if isinstance(error, OSError) and error.errno in ADVICE:
            name: Any = error.filename if error.filename is not None else "a file or stream"
            raise system_error(_text(name), error, "used") from error
        raise


def _text(name: Any) -> str:
    return name.decode(errors="backslashreplace") if isinstance(name, bytes) else str(name)
