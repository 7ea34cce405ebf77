"""What the system refuses is told apart, in one line; a bug of ours stays an exception."""

import errno
import os
from pathlib import Path

import pytest

from w2v_inf.errors import UserError
from w2v_inf.system_errors import ADVICE, OF_PATHS, explained, is_out_of_memory, system_error


@pytest.mark.parametrize("number", [*ADVICE, *OF_PATHS])
def test_every_reason_has_its_line(number: int) -> None:
    error = OSError(number, os.strerror(number), "/a/b")
    said = str(system_error("/a/b", error, "read"))
    assert said == f"/a/b cannot be read ({os.strerror(number)}): {(ADVICE | OF_PATHS)[number]}"
    assert "delete" not in said and "train again" not in said
    if number in OF_PATHS:  # perhaps a file that our own code misses
        with pytest.raises(OSError), explained():
            raise error
    else:
        with pytest.raises(UserError), explained():
            raise error


def test_a_file_system_without_locks_is_no_other_process() -> None:
    for number in (errno.ENOLCK, errno.EBADF, errno.ENOSYS):
        said = str(system_error("run", OSError(number, "x"), "locked"))
        assert said.endswith("this file system has no such locks: choose a folder on a local disk")


def test_the_reason_of_a_library_in_rust() -> None:
    said = 'Error while serializing: I/O error: Os { code: 28, kind: StorageFull, message: "x" }'
    assert "free some space" in str(system_error("x", ValueError(said), "written"))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
        RuntimeError("can't start new thread"),
        ImportError("libtorch.so: failed to map segment from shared object"),
    ],
)
def test_memory_that_is_used_up_is_one_line(error: Exception) -> None:
    assert is_out_of_memory(error)
    with (
        pytest.raises(UserError, match="memory is used up, or limited by"),
        explained(),
    ):
        raise error


def test_other_errors_pass() -> None:
    for error in (ValueError("x"), RuntimeError("shapes differ"), ImportError("no such module")):
        with pytest.raises(type(error)), explained():
            raise error


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="File name too long.*: choose a shorter name"), explained():
        (tmp_path / ("x" * 300)).exists()
