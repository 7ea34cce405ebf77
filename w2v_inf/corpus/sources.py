"""Each `corpus=`: where its text comes from, how it is cleaned, and what identifies it.

Decisions:
- A source is described before its text is read. Its identity names the cached folder, so a cached
  text needs neither network nor cleaning again.
- The identity is the sha256 of the source's bytes, which are read twice: for the sha256, and only
  if the cache lacks it, for the words. They must be the same both times.
- A download without corpus.path is identified by the published md5 of its text, a hub stream by its
  options, generated text by its version.
- A downloaded zip stays in data_dir. Its text is checked against the published md5 after the
  download and at each reading.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from w2v_inf.config import CorpusConfig, Fil9, Planted, Sample, Text8, TextFile, Wikipedia
from w2v_inf.corpus import wikifil, wikipedia
from w2v_inf.corpus.archives import changed, hash_file, read_text_file, read_zip_member
from w2v_inf.corpus.download import download
from w2v_inf.corpus.encoded_folder import Origin
from w2v_inf.errors import UserError

READING = "text-2"
"""Name and version of how the bytes of a text file become text: they alone decide."""
_WIKIPEDIA_LICENCE = "CC BY-SA, Wikipedia contributors"
_SAMPLE_FILE = "test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"


@dataclass(frozen=True)
class Archive:
    """A well-known zip: its address, and name and md5 of the one file in it."""

    url: str
    member: str
    md5: str


TEXT8 = Archive("https://mattmahoney.net/dc/text8.zip", "text8", "3bea1919949baf155f99411df5fada7e")
ENWIK9 = Archive(
    "https://mattmahoney.net/dc/enwik9.zip", "enwik9", "e206c3450ac99950df65bf70ef61a12d"
)


@dataclass(frozen=True)
class Source:
    origin: Origin
    read: Callable[[], Iterator[bytes]]
    """Clean text, UTF-8, one document a line; downloads on first use if need be."""


def describe(corpus: CorpusConfig, data_dir: Path) -> Source:
    """The source of a corpus.

    Raises: UserError if a local file that it needs is missing.
    Cost: hashes local source files, 0.1 to 0.3 s per 100 MB; no network.
    """
    match corpus:
        case Text8():
            return _describe_zip(corpus, TEXT8, data_dir)
        case Fil9():
            return _describe_zip(corpus, ENWIK9, data_dir)
        case Sample():
            return _describe_sample(corpus)
        case Planted():
            return _describe_planted(corpus)
        case Wikipedia():
            return _describe_wikipedia(corpus)
        case TextFile():
            return _describe_file(corpus)
    raise TypeError(f"no such corpus: {type(corpus).__name__}")


def _describe_zip(corpus: Text8 | Fil9, archive: Archive, data_dir: Path) -> Source:
    path = Path(corpus.path).expanduser() if corpus.path else None
    identity = hash_file(path) if path else _sha256(archive.md5)
    is_dump = isinstance(corpus, Fil9)
    source = str(path or corpus.url or archive.url)
    origin = Origin(
        _name(corpus), source, identity, wikifil.VERSION if is_dump else "", _WIKIPEDIA_LICENCE
    )

    def read() -> Iterator[bytes]:
        local = path or fetch_zip(archive, corpus.url, data_dir)
        text = read_zip_member(local, archive.member, archive.md5)
        return wikifil.wikifil(text) if is_dump else text

    return Source(origin, read)


def fetch_zip(archive: Archive, mirror: str, data_dir: Path) -> Path:
    """The zip in data_dir, with its text checked; downloaded from the mirror or the original site.

    Raises: CorpusUnavailable if the download fails.
    """

    def check(path: Path) -> None:
        for _ in read_zip_member(path, archive.member, archive.md5):
            pass

    return download(mirror or archive.url, data_dir / f"{archive.member}.zip", check)


def _describe_sample(corpus: Sample) -> Source:
    # Found without importing gensim, which takes a second.
    spec = find_spec("gensim")
    path = Path((spec and spec.submodule_search_locations or [""])[0]) / _SAMPLE_FILE
    if not path.is_file():
        raise UserError(
            f"corpus=sample needs a file that gensim ships, {path}, not found: pip install gensim"
        )
    identity = hash_file(path)
    origin = Origin(_name(corpus), path.name, identity, wikifil.VERSION, _WIKIPEDIA_LICENCE)
    return Source(origin, lambda: wikifil.wikifil(read_text_file(path, identity)))


def _describe_planted(corpus: Planted) -> Source:
    from w2v_inf.corpus.planted import PLANTED_VERSION, planted_documents

    licence = "generated, no rights reserved"
    origin = Origin(
        _name(corpus),
        f"planted {PLANTED_VERSION}",
        _sha256(PLANTED_VERSION),
        "",
        licence,
        synthetic=True,
    )
    return Source(origin, lambda: (document.encode() + b"\n" for document in planted_documents()))


def _describe_wikipedia(corpus: Wikipedia) -> Source:
    version = wikipedia.VERSIONS[corpus.cleaning]
    options = f"{corpus.cleaning.value}-{version} max_documents={corpus.max_documents}"
    if corpus.path:
        files = wikipedia.list_files(Path(corpus.path).expanduser())
        hashes = [hash_file(file) for file in files]
        identity = hashes[0] if len(files) == 1 else _sha256(*hashes)
        source = corpus.path
    else:
        identity = _sha256(wikipedia.HUB_NAME, corpus.snapshot, options)
        source, files, hashes = f"{wikipedia.HUB_NAME} {corpus.snapshot}", [], []

    def read() -> Iterator[bytes]:
        texts = wikipedia.read_files(files) if files else wikipedia.stream_hub(corpus.snapshot)
        yield from wikipedia.clean_articles(texts, corpus.cleaning, corpus.max_documents)
        # pyarrow reads a file in its own order, so the files are hashed once more.
        for file, before in zip(files, hashes, strict=True):
            if hash_file(file) != before:
                raise changed(file)

    return Source(Origin(_name(corpus), source, identity, options, _WIKIPEDIA_LICENCE), read)


def _describe_file(corpus: TextFile) -> Source:
    path = Path(corpus.path).expanduser()
    if path.is_dir():
        raise UserError(f"corpus.path must be a text file, got the folder {path}")
    identity = hash_file(path)
    origin = Origin(_name(corpus), str(path), identity, READING, "that of the file")
    return Source(origin, lambda: read_text_file(path, identity))


def _name(corpus: CorpusConfig) -> str:
    # That of the class: corpus.name could be overridden, and becomes part of a path.
    return str(type(corpus).name)


def _sha256(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
