"""The options of each corpus."""

from dataclasses import dataclass
from enum import StrEnum

from omegaconf import MISSING

from w2v_inf.config.checks import check_finite, check_name
from w2v_inf.errors import check
from w2v_inf.paths import path_option

Cleaning = StrEnum("Cleaning", {"text8": "text8", "unicode": "unicode"})


@dataclass
class CorpusConfig:
    """The text, and which of its words count."""

    name: str = MISSING
    min_count: int = 5
    """Drop words that occur fewer times than this in the corpus."""
    max_vocab: int = 0
    """Keep only this many of the most frequent words; 0 keeps all."""
    phrases: int = 0
    """Passes, 0 to 2, that join frequent pairs: 1 makes new_york, 2 also new_york_city."""
    phrase_threshold: float = 100.0
    """Join pairs that occur more often than this many times their expected count."""
    phrase_min_count: int = 5
    """Discount of a pair's count, against pairs of rare words."""

    def __post_init__(self) -> None:
        check_name("corpus", self)
        check_finite("corpus", self)
        check("corpus.min_count", self.min_count, self.min_count >= 1, "at least 1")
        ok = self.max_vocab == 0 or self.max_vocab >= 2
        check("corpus.max_vocab", self.max_vocab, ok, "0 (all) or at least 2")
        self._check_phrases()

    def _check_phrases(self) -> None:
        check("corpus.phrases", self.phrases, self.phrases in (0, 1, 2), "0, 1 or 2")
        above_0 = self.phrase_threshold > 0
        check("corpus.phrase_threshold", self.phrase_threshold, above_0, "above 0")
        at_least_1 = self.phrase_min_count >= 1
        check("corpus.phrase_min_count", self.phrase_min_count, at_least_1, "at least 1")
        for name in ("phrase_threshold", "phrase_min_count"):
            value, default = getattr(self, name), getattr(CorpusConfig, name)
            allowed = (
                f"{default} with corpus.phrases=0 (give corpus.phrases=1 or 2 to join phrases)"
            )
            check(f"corpus.{name}", value, self.phrases > 0 or value == default, allowed)


@dataclass
class Sample(CorpusConfig):
    """A little of the English Wikipedia, from gensim's test data: real text, without a network."""

    name: str = "sample"


@dataclass
class Planted(CorpusConfig):
    """Synthetic text from a known table of relations."""

    name: str = "planted"


@dataclass
class Downloaded(CorpusConfig):
    path: str = path_option()
    """A local copy of the zip; empty: download it into data_dir."""
    url: str = ""
    """A mirror that has the zip; empty: the original site."""


@dataclass
class Text8(Downloaded):
    """The first 100 MB of cleaned English Wikipedia of 2006 (mattmahoney.net)."""

    name: str = "text8"


@dataclass
class Fil9(Downloaded):
    """The first 1 GB of the same Wikipedia dump, cleaned in the same way."""

    name: str = "fil9"
    min_count: int = 10


@dataclass
class Wikipedia(CorpusConfig):
    """`wikimedia/wikipedia` from the Hugging Face hub, or local parquet or arrow files of it."""

    name: str = "wikipedia"
    min_count: int = 10
    path: str = path_option()
    """A .parquet or .arrow file, or a folder of them, with a column `text`; empty: from the hub."""
    snapshot: str = "20231101.en"
    """Date and language of the dump."""
    cleaning: Cleaning = Cleaning.text8
    """text8: a-z and spelled-out digits; unicode: lower-case words of any script."""
    max_documents: int = 0
    """Take only the first articles, this many; 0 takes all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        ok = self.max_documents >= 0
        check("corpus.max_documents", self.max_documents, ok, "0 (all) or more")


@dataclass
class TextFile(CorpusConfig):
    """Your own text file: .txt, .gz, .bz2, .xz or .zst, one document per line."""

    name: str = "file"
    path: str = path_option()
    """The file; required. It may be one long line. Words are separated by blanks."""

    def __post_init__(self) -> None:
        super().__post_init__()
        allowed = "the path of a text file (with corpus=file)"
        check("corpus.path", "nothing", bool(self.path), allowed)
