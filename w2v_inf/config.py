"""Every option: its name, default, unit and range. No other file knows them.

Decisions:
- The groups `corpus` and `model` have one dataclass per member. So `model=ntk_limit model.width=64`
  is an error.
- A member has a field `name`, because the saved options do not record which member was chosen.
- null (None) means a default that depends on other options or on the machine, never 0. `Config`
  fills in those of `stream` and `train`.
- compose.py turns command lines and files into a `Config`. conf/ holds YAML over these classes.
"""

import dataclasses
import math
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import MISSING

from w2v_inf.errors import check, check_range
from w2v_inf.paths import expand_paths, path_option

PACKAGE = Path(__file__).resolve().parent
IS_CHECKOUT = (PACKAGE.parent / "pyproject.toml").is_file()
PROJECT_ROOT = PACKAGE.parent if IS_CHECKOUT else Path()
"""Folder of runs/ and data/: the checkout, or the current folder for an installed package."""
CONF = PACKAGE / "conf"
"""In a checkout a link to the folder at the top; a wheel has the files themselves."""

if TYPE_CHECKING:  # readers of a Config see numbers, because it fills them in
    FilledInt = int
    FilledFloat = float
else:
    FilledInt = int | None
    FilledFloat = float | None
_NULL: Any = None


Architecture = StrEnum("Architecture", {"cbow": "cbow", "skipgram": "skipgram"})
Parametrization = StrEnum(
    "Parametrization", {"mup": "mup", "ntp": "ntp", "sp": "sp", "mfp": "mfp", "custom": "custom"}
)
Engine = StrEnum("Engine", {"dense": "dense", "lowrank": "lowrank"})
Dtype = StrEnum("Dtype", {"float32": "float32", "bfloat16": "bfloat16"})
ContextGradient = StrEnum("ContextGradient", {"divided": "divided", "whole": "whole"})
Sigmoid = StrEnum("Sigmoid", {"exact": "exact", "tp4": "tp4"})
Resume = StrEnum("Resume", {"auto": "auto", "never": "never"})
Log = StrEnum("Log", {"jsonl": "jsonl", "tensorboard": "tensorboard"})
Cleaning = StrEnum("Cleaning", {"text8": "text8", "unicode": "unicode"})
Device = StrEnum("Device", {"auto": "auto", "cpu": "cpu", "cuda": "cuda"})
Embedding = StrEnum("Embedding", {"input": "input", "output": "output", "sum": "sum"})
VectorMethod = StrEnum(
    "VectorMethod",
    {"auto": "auto", "own": "own", "principal": "principal", "sample": "sample", "fit": "fit"},
)
VectorFormat = StrEnum("VectorFormat", {"text": "text", "binary": "binary", "gensim": "gensim"})
Figure = StrEnum(
    "Figure",
    {
        "all": "all",
        "accuracy": "accuracy",
        "sections": "sections",
        "loss": "loss",
        "pca": "pca",
        "width": "width",
        "transfer": "transfer",
    },
)
Profile = StrEnum(
    "Profile", {"auto": "auto", "smoke": "smoke", "laptop": "laptop", "paper": "paper"}
)


def _check_name(group: str, options: Any) -> None:
    """The name says which member of the group this is. It does not choose one."""
    own = type(options).name
    allowed = f"{own} here: choose with {group}=NAME"
    check(f"{group}.name", options.name, own in (options.name, MISSING), allowed)


def _check_finite(prefix: str, options: Any) -> None:
    for f in dataclasses.fields(options):
        value = getattr(options, f.name)
        if isinstance(value, float):
            check(f"{prefix}.{f.name}", value, math.isfinite(value), "a finite number")


@dataclass
class CorpusConfig:
    """The text, and which of its words count."""

    name: str = MISSING
    min_count: int = 5
    """Drop words that occur fewer times than this in the corpus."""
    max_vocab: int = 0
    """Keep only this many of the most frequent words; 0 keeps all."""

    def __post_init__(self) -> None:
        _check_name("corpus", self)
        check("corpus.min_count", self.min_count, self.min_count >= 1, "at least 1")
        ok = self.max_vocab == 0 or self.max_vocab >= 2
        check("corpus.max_vocab", self.max_vocab, ok, "0 (all) or at least 2")


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


@dataclass
class StreamConfig:
    """How the text becomes training examples, the same for every model."""

    architecture: Architecture = Architecture.cbow
    """cbow: the mean of the context predicts the word; skipgram: each context word does."""
    window: int = 8
    """Largest distance of a context word, in kept words. Each position draws from 1 to this."""
    num_negatives: int = 25
    """K: negatives per positive, drawn from count^0.75."""
    subsample_threshold: float = 1e-4
    """t: a word of frequency f is kept with probability min(1, sqrt(t/f) + t/f); 0 keeps all."""
    batch_size: FilledInt = _NULL
    """B: positions per SGD step. null: 32. Larger steps overshoot."""
    interleave: FilledInt = _NULL
    """Distant places of a block (262,144 words) that a batch takes its positions from; a divisor of
    batch_size. 1: the order of the text. null: batch_size."""
    group_size: FilledInt = _NULL
    """Positions that share their negatives. null: batch_size. 1: every example draws its own."""
    shared_negatives: FilledInt = _NULL
    """S: negatives per group, each weighted K/S; unused with group_size=1. null: 16 (CBOW), 32
    (skip-gram)."""

    def __post_init__(self) -> None:
        check_range("stream.window", self.window, 1, 100)
        check_range("stream.num_negatives", self.num_negatives, 1, 1000)
        check_range("stream.batch_size", self.batch_size, 1, 65536, "the default")
        check_range("stream.interleave", self.interleave, 1, 65536, "the default")
        check_range("stream.group_size", self.group_size, 1, 65536, "stream.batch_size")
        check_range("stream.shared_negatives", self.shared_negatives, 1, 65536, "the default")
        _check_finite("stream", self)
        t = self.subsample_threshold
        check("stream.subsample_threshold", t, t >= 0, "0 (keep all) or more")


@dataclass
class ModelConfig:
    """Which network is trained."""

    name: str = MISSING
    output_init_scale: float = 0.0
    """Standard deviation of the initial output embedding, in units of the parametrization's; 0: w
    starts at zero."""

    def __post_init__(self) -> None:
        _check_name("model", self)
        _check_finite("model", self)
        scale = self.output_init_scale
        check("model.output_init_scale", scale, scale >= 0, "0 or more")


@dataclass
class Finite(ModelConfig):
    """A network of finite width."""

    name: str = "finite"
    width: int = 256
    """n: columns of the embeddings."""
    parametrization: Parametrization = Parametrization.mup
    """How initial scales and learning rates depend on the width (TP4 Table 1)."""
    exponents: list[float] = field(default_factory=list)
    """With parametrization=custom: a1, b1, a2, b2, c (TP4 Definition 3.1)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("model.width", self.width, 1, 1_000_000)
        num_wanted = 5 if self.parametrization is Parametrization.custom else 0
        in_range = all(math.isfinite(e) and abs(e) <= 4 for e in self.exponents)
        ok = len(self.exponents) == num_wanted and in_range
        allowed = "five numbers [a1,b1,a2,b2,c] with model.parametrization=custom, absent otherwise"
        check("model.exponents", self.exponents, ok, f"{allowed} (each within +-4)")


@dataclass
class NtkLimit(ModelConfig):
    """The infinite-width limit in which embeddings stay at their initialisation."""

    name: str = "ntk_limit"


@dataclass
class MupLimit(ModelConfig):
    """The infinite-width limit in which embeddings learn."""

    name: str = "mup_limit"
    engine: Engine = Engine.dense
    """dense: exact, two V x V tables; lowrank: approximate, `rank` directions (docs/lowrank.md)."""
    dtype: Dtype = Dtype.float32
    """Of the dense engine's tables. bfloat16 takes half the memory; it rounds stochastically and
    computes in float32."""
    rank: int | None = None
    """r: directions of the lowrank engine, at most with model.tolerance. null: 256, with
    model.tolerance 1,024; at most V."""
    tolerance: float | None = None
    """Largest share of what the pilot run learns that may lie outside the directions; as few as
    suffice are kept. null: model.rank of them."""
    pair_table_gib: float | None = None
    """GiB for the lowrank engine's table of word pairs. null: as needed, up to 40 % of the memory
    that is free beside the other tables."""

    def __post_init__(self) -> None:
        super().__post_init__()
        rank, tolerance, gib = self.rank, self.tolerance, self.pair_table_gib
        if self.engine is Engine.dense:
            for name in ("rank", "tolerance", "pair_table_gib"):
                value = getattr(self, name)
                allowed = "absent with model.engine=dense (it is for lowrank)"
                check(f"model.{name}", value, value is None, allowed)
            return
        check("model.rank", rank, rank is None or rank >= 1, "at least 1, or null for the default")
        allowed = "above 0 and below 1, or null to take model.rank"
        check("model.tolerance", tolerance, tolerance is None or 0 < tolerance < 1, allowed)
        allowed = "above 0, or null for the default"
        check("model.pair_table_gib", gib, gib is None or gib > 0, allowed)
        allowed, ok = "float32 with model.engine=lowrank", self.dtype is Dtype.float32
        check("model.dtype", self.dtype.value, ok, allowed)
        scale = self.output_init_scale
        check("model.output_init_scale", scale, scale == 0, "0 with model.engine=lowrank")


@dataclass
class TrainConfig:
    """How long it trains, and by which update."""

    epochs: int = 5
    """Passes over the corpus."""
    lr: FilledFloat = _NULL
    """Initial learning rate, dimensionless; falls linearly with the words seen. null: 0.05 (CBOW),
    0.025 (skip-gram), as word2vec.c."""
    weight_decay: float = 0.001
    """A row updated m times in a step is first multiplied by (1 - lr weight_decay)^m."""
    context_gradient: ContextGradient = ContextGradient.divided
    """divided: the gradient of the mean context, as TP4; whole: each context word gets the full
    gradient of the hidden vector, as word2vec.c and gensim (about 9 times larger in CBOW)."""
    sigmoid: Sigmoid = Sigmoid.exact
    """exact, or tp4: the look-up table of the authors' program, off by 0.19 in the logit."""
    resume: Resume = Resume.auto
    """auto: an interrupted run resumes from its last checkpoint; never: it starts again."""
    log: Log = Log.jsonl
    """jsonl: metrics.jsonl; tensorboard: an event file as well (extra tensorboard)."""

    def __post_init__(self) -> None:
        check_range("train.epochs", self.epochs, 1, 10_000)
        _check_finite("train", self)
        allowed = "above 0, or null for the architecture's default"
        check("train.lr", self.lr, self.lr is None or self.lr > 0, allowed)
        check("train.weight_decay", self.weight_decay, self.weight_decay >= 0, "0 or more")


@dataclass
class EvaluateConfig:
    """Which vectors are evaluated."""

    embedding: Embedding = Embedding.input
    """Vectors that answer the questions: input (u), output (w) or their sum."""
    limit_run: str = path_option()
    """Run folder of a muP limit; evaluate adds the distance to it to the summary of run_dir."""
    vectors: str = path_option()
    """A file of word vectors (word2vec's text or binary format) to use in place of a run."""
    out: str = path_option()
    """JSON file for the result; empty: evaluation-EMBEDDING.json in run_dir, or beside vectors."""


@dataclass
class ExportConfig:
    """Vectors for other programs (`w2v-inf export`)."""

    method: VectorMethod = VectorMethod.auto
    """own: every column of the model; principal: leading factor of its Gram matrix; sample: a
    finite network drawn from it; fit: the vectors with the closest cosines; auto: own for a finite
    network at its own width, else fit."""
    dimension: int | None = None
    """Columns. null: the width of a finite network, else 300."""
    format: VectorFormat = VectorFormat.text
    """text or binary as word2vec.c writes them; gensim: a file for KeyedVectors.load."""
    out: str = path_option()
    """File to write; empty: vectors-METHOD-DIMENSION in run_dir."""

    def __post_init__(self) -> None:
        check_range("export.dimension", self.dimension, 1, 1_000_000, "the default")


@dataclass
class PlotConfig:
    """Figures (`w2v-inf plot`) and the report (`w2v-inf report`)."""

    figure: Figure = Figure.all
    """Accuracy by epoch, by section, loss, PCA of cities and states, accuracy by width; transfer:
    loss over model.width and train.lr, of a sweep over both; all: all but transfer."""
    runs: list[str] = path_option(list)
    """Run folders, or folders that hold some; empty: run_dir."""
    out: str = path_option()
    """Folder for the figures; empty: figures/ beside the runs."""


@dataclass
class ReproduceConfig:
    """The whole comparison (`w2v-inf reproduce`, make reproduce)."""

    profile: Profile = Profile.auto
    """How much is done: conf/experiment/PROFILE.yaml. auto: the file named like the corpus, else
    the largest profile whose estimate fits."""
    widths: list[int] = field(default_factory=lambda: [64, 256])
    """Widths of the finite muP networks."""
    seeds: int = 1
    """Seeds per finite width; the limits are trained once, with the first seed."""
    minutes: float = 60.0
    """Estimated wall time up to which profile=auto takes a profile."""

    def __post_init__(self) -> None:
        ok = bool(self.widths) and min(self.widths) >= 1
        check("reproduce.widths", self.widths, ok, "a list of widths of at least 1")
        check("reproduce.minutes", self.minutes, self.minutes > 0, "above 0")
        check_range("reproduce.seeds", self.seeds, 1, 100)
        _check_finite("reproduce", self)


@dataclass
class Config:
    corpus: CorpusConfig = MISSING
    stream: StreamConfig = field(default_factory=StreamConfig)
    model: ModelConfig = MISSING
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    plot: PlotConfig = field(default_factory=PlotConfig)
    reproduce: ReproduceConfig = field(default_factory=ReproduceConfig)
    device: Device = Device.auto
    """auto: a GPU if there is one."""
    num_threads: int | None = None
    """CPU threads. null: one per core."""
    seed: int = 0
    """Of everything random: the initialisation, and which examples are drawn."""
    run_dir: str = path_option()
    """Folder of the run; empty: CORPUS-ARCHITECTURE/MODEL-seedN in runs_dir."""
    runs_dir: str = path_option(str(PROJECT_ROOT / "runs"))
    """Folder of runs and reports."""
    data_dir: str = path_option(str(PROJECT_ROOT / "data" / "cache"))
    """Folder of downloads and encoded corpora."""

    def __post_init__(self) -> None:
        check("seed", self.seed, 0 <= self.seed < 2**63, "from 0 to 2^63 - 1")
        check_range("num_threads", self.num_threads, 1, 1024, "one per core")
        expand_paths(self)
        self._fill_in_defaults()
        group, batch = self.stream.group_size, self.stream.batch_size
        check("stream.group_size", group, group <= batch, f"at most stream.batch_size = {batch}")
        places, allowed = self.stream.interleave, f"a divisor of stream.batch_size = {batch}"
        check("stream.interleave", places, batch % places == 0, allowed)
        lr, decay = self.train.lr, self.train.weight_decay
        check(
            "train.weight_decay",
            decay,
            lr * decay < 1,
            f"below 1 / train.lr = {1 / lr:g} (lower either)",
        )

    def _fill_in_defaults(self) -> None:
        # Not in StreamConfig: Hydra makes one with the default architecture before the overrides.
        stream, skipgram = self.stream, self.stream.architecture is Architecture.skipgram
        stream.batch_size = stream.batch_size or 32
        stream.interleave = stream.interleave or stream.batch_size
        stream.group_size = stream.group_size or stream.batch_size
        stream.shared_negatives = stream.shared_negatives or (32 if skipgram else 16)
        self.train.lr = self.train.lr or (0.025 if skipgram else 0.05)


CORPORA = (Text8, Fil9, Wikipedia, Sample, Planted, TextFile)
MODELS = (Finite, NtkLimit, MupLimit)
MEMBERS: dict[str, tuple[Any, ...]] = {"corpus": CORPORA, "model": MODELS}
"""The dataclasses of each group whose members are chosen by GROUP=NAME."""
