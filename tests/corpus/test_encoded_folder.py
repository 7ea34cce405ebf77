"""Files of an encoded corpus: whole or not at all, whoever writes at the same time."""

import errno
import multiprocessing
import os
import subprocess
import sys

import pytest
from corpora import content

from w2v_inf.corpus import encoded_folder
from w2v_inf.corpus.encode import encode
from w2v_inf.corpus.encoded_folder import Origin
from w2v_inf.corpus.load import open_corpus
from w2v_inf.errors import UserError
from w2v_inf.reference.encoding import encode_slowly

ORIGIN = Origin("file", "some.txt", "00" * 32, "", "none")
TEXT = b"the cat sat on the mat\nthe dog\n\n  on a log \n"


@pytest.mark.parametrize("failing", ["_renumber", "_write_array", "sync", "_publish"])
def test_a_full_disk_is_a_user_error_and_leaves_nothing(tmp_path, monkeypatch, failing):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(encoded_folder, failing, full)
    with pytest.raises(
        UserError,
        match="no space left on device writing .*/c .*free more than 1 MiB or choose another data",
    ):
        encode([TEXT], tmp_path / "c", ORIGIN)
    assert os.listdir(tmp_path) == []


def test_a_data_dir_that_is_a_file_is_a_user_error(tmp_path):
    (tmp_path / "data").write_text("")
    with pytest.raises(UserError, match="data_dir: cannot write"):
        encode([TEXT], tmp_path / "data" / "c", ORIGIN)


def test_an_interrupt_leaves_nothing(tmp_path):
    def chunks():
        yield TEXT
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode(chunks(), tmp_path / "c", ORIGIN)
    assert os.listdir(tmp_path) == []


ENCODE_UNTIL_KILLED = """
import sys
from pathlib import Path
from w2v_inf.corpus.encode import encode
from w2v_inf.corpus.encoded_folder import Origin

def chunks():
    yield b"one two"
    print("in the draft", flush=True)
    sys.stdin.read()

encode(chunks(), Path(sys.argv[1]), Origin("file", "x", "", "", ""))
"""


def test_what_a_killed_process_left_is_removed_but_not_a_live_draft(tmp_path):
    killed, live = (
        subprocess.Popen(
            [sys.executable, "-c", ENCODE_UNTIL_KILLED, str(tmp_path / name)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for name in ("killed", "live")
    )
    with killed, live:
        for process in (killed, live):
            assert process.stdout is not None
            assert process.stdout.readline() == b"in the draft\n"
        killed.kill()
        killed.wait()
        (tmp_path / ".mine-1-0123abcd").mkdir()
        (tmp_path / ".mine-1-0123abcd" / "notes.txt").write_text("not a draft")
        encode([TEXT], tmp_path / "c", ORIGIN)
        left = sorted(name.partition("-")[0] for name in os.listdir(tmp_path))
        assert left == [".live", ".mine", "c"]
        live.kill()
        live.wait()
    encode([TEXT], tmp_path / "d", ORIGIN)
    assert sorted(os.listdir(tmp_path)) == [".mine-1-0123abcd", "c", "d"]


def test_without_locks_nothing_is_removed(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(encoded_folder.fcntl, "flock", no_locks)
    (tmp_path / ".c-1-0123abcd").mkdir()
    encode([TEXT], tmp_path / "c", ORIGIN)
    assert sorted(os.listdir(tmp_path)) == [".c-1-0123abcd", "c"]


def test_losing_the_race_keeps_the_winner(tmp_path):
    def chunks():
        yield TEXT
        encode([TEXT], tmp_path / "c", ORIGIN)  # another process finishes in the meantime

    encode(chunks(), tmp_path / "c", ORIGIN)
    assert os.listdir(tmp_path) == ["c"]
    assert content(open_corpus(tmp_path / "c")) == encode_slowly(TEXT)


def test_processes_at_once_do_not_clash(tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=encode, args=([TEXT] * 50, tmp_path / "c", ORIGIN)) for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 3
    assert os.listdir(tmp_path) == ["c"]
    assert content(open_corpus(tmp_path / "c")) == encode_slowly(TEXT * 50)
