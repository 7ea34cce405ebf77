"""Where evaluation sets lie: ours, known by name and checksum, and the files of the user's.

Decisions:
- gensim ships all three of ours. Its copy is used if its bytes are the known ones; gensim is not
  imported.
- Otherwise the file is taken from the data folder, or downloaded there from gensim's repository.
"""

from importlib.util import find_spec
from pathlib import Path

from w2v_inf.config import Config
from w2v_inf.corpus.download import CorpusUnavailable, download
from w2v_inf.errors import UserError
from w2v_inf.files import sha256
from w2v_inf.system_errors import system_error

URL = "https://raw.githubusercontent.com/piskvorky/gensim/4.4.0/gensim/test/test_data/"
SHA256 = {
    "questions-words.txt": "8c29b3332afc46f3fb8be04cb5297bf96f39aa7131272dff57869b4485b22a36",
    "wordsim353.tsv": "f92a022fc2537793a15bc3a8c162ebcd74990e033a228bb6388cb71e4c0b1e1d",
    "simlex999.txt": "d5e0501971478a511430ee880bd0121e94ac701ba86d90544d83e6d2ba3db05d",
}

SUFFIXES = (".txt", ".tsv", ".csv")
"""Of a user's files in a folder."""


def find_dataset(name: str, folder: Path | None = None) -> Path:
    """The file of an evaluation set, downloaded if it is nowhere.

    Args:
      name: a key of `SHA256`.
      folder: of files that gensim does not supply; default: evaluation/ in the default data_dir.
    Raises: UserError if the file in `folder` has another checksum, or cannot be downloaded.
    Cost: one read of the file, 700 kB at most.
    """
    shipped = _gensim_folder() / name
    if shipped.is_file() and sha256(shipped) == SHA256[name]:
        return shipped
    path = (folder or Path(Config().data_dir) / "evaluation") / name
    try:
        download(URL + name, path, lambda part: _check(part, name))
    except CorpusUnavailable as error:
        raise UserError(
            f"{path} not found, and {URL}{name} cannot be downloaded: "
            "install gensim, which has the file, or put it there yourself"
        ) from error
    _check(path, name)
    return path


def files_of(path: Path, option: str) -> dict[str, Path]:
    """The file by its name; or, of a folder, all its files at any depth, by their path in it.

    Only files that end in one of `SUFFIXES` count in a folder, so that notes and licences do not.
    Raises: UserError, which names the `option`, if there is none.
    """
    if not path.exists():
        raise UserError(f"{option}: {path.absolute()} not found: give a file, or a folder of files")
    if not path.is_dir():
        return {path.name: path}
    found = [
        file
        for file in sorted(path.rglob("*"))
        if file.suffix.lower() in SUFFIXES and file.name[0] != "." and file.is_file()
    ]
    if not found:
        raise UserError(f"{option}: {path} holds no file that ends in {', '.join(SUFFIXES)}")
    return {str(file.relative_to(path)): file for file in found}


def read_lines(path: Path, option: str) -> list[tuple[int, str]]:
    """The lines of a text file that are not blank, stripped, with their numbers from 1.

    Raises: UserError if it cannot be read, is no UTF-8 text or has no such line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise system_error(path, error, "read") from error
    except UnicodeDecodeError as error:
        found = f"byte {error.start:,} is not UTF-8"
        raise UserError(f"{option}: {path} must be UTF-8 text ({found}): convert it") from error
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), start=1)]
    if "\0" in text or not any(line for _, line in lines):
        what = "holds no line" if "\0" not in text else "is not text"
        raise UserError(f"{option}: {path} {what}: give a text file")
    return [(number, line) for number, line in lines if line]


def _check(path: Path, name: str) -> None:
    if (found := sha256(path)) != SHA256[name]:
        raise UserError(
            f"{path} must have sha256 {SHA256[name][:12]}..., has {found[:12]}...: "
            f"delete the file, or replace it by {URL}{name}"
        )


def _gensim_folder() -> Path:
    spec = find_spec("gensim")
    locations = (spec and spec.submodule_search_locations) or ["absent"]
    return Path(locations[0]) / "test" / "test_data"
