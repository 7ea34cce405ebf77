"""The evaluation sets: each known by its name and checksum, wherever the file lies.

Decisions:
- gensim ships all three. Its copy is used if its bytes are the known ones; gensim is not imported.
- Otherwise the file is taken from the data folder, or downloaded there from gensim's repository.
"""

from importlib.util import find_spec
from pathlib import Path

from w2v_inf.config import Config
from w2v_inf.corpus.download import CorpusUnavailable, download
from w2v_inf.errors import UserError
from w2v_inf.files import sha256

URL = "https://raw.githubusercontent.com/piskvorky/gensim/4.4.0/gensim/test/test_data/"
SHA256 = {
    "questions-words.txt": "8c29b3332afc46f3fb8be04cb5297bf96f39aa7131272dff57869b4485b22a36",
    "wordsim353.tsv": "f92a022fc2537793a15bc3a8c162ebcd74990e033a228bb6388cb71e4c0b1e1d",
    "simlex999.txt": "d5e0501971478a511430ee880bd0121e94ac701ba86d90544d83e6d2ba3db05d",
}


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
