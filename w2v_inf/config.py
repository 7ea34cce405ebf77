"""Every option: its name, default, unit and range. The only place that knows them.

Decisions:
- Groups `corpus` and `model` are one dataclass a member, so that `model=ntk_limit model.width=64` is an error.
- Members are registered with Hydra from here (`register`); YAML in conf/ holds named experiments only.
- Each member has a `name`: the saved config would not say which one was chosen otherwise.
- `load` refuses keys that no dataclass declares: Hydra accepts `+model.widht=9` and would ignore it in silence.
"""

import dataclasses
import math
import re
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from w2v_inf.errors import UserError

PROJECT_ROOT = Path(__file__).resolve().parents[1]


class Architecture(Enum):
    cbow = "cbow"
    skipgram = "skipgram"


class Parametrization(Enum):
    mup = "mup"
    ntp = "ntp"
    sp = "sp"
    mfp = "mfp"
    custom = "custom"


class Engine(Enum):
    dense = "dense"
    lowrank = "lowrank"


class Dtype(Enum):
    float32 = "float32"
    bfloat16 = "bfloat16"


class ContextGradient(Enum):
    divided = "divided"
    whole = "whole"


class Sigmoid(Enum):
    exact = "exact"
    tp4 = "tp4"


class Resume(Enum):
    auto = "auto"
    never = "never"


class Log(Enum):
    jsonl = "jsonl"
    tensorboard = "tensorboard"


class Cleaning(Enum):
    text8 = "text8"
    unicode = "unicode"


class Device(Enum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Embedding(Enum):
    input = "input"
    output = "output"
    sum = "sum"


def _check(option: str, value: Any, ok: bool, allowed: str) -> None:
    if not ok:
        raise UserError(f"{option} must be {allowed}, got {value}")


def _check_name(group: str, options: Any) -> None:
    """The name says which member of the group this is; it is not for choosing one."""
    _check(
        f"{group}.name",
        options.name,
        type(options).name in (options.name, MISSING),
        f"{type(options).name} here: choose with {group}=NAME",
    )


def _check_finite_floats(prefix: str, options: Any) -> None:
    for f in dataclasses.fields(options):
        value = getattr(options, f.name)
        if isinstance(value, float):
            _check(f"{prefix}.{f.name}", value, math.isfinite(value), "a finite number")


@dataclass
class CorpusConfig:
    """The text, and which of its words count."""

    name: str = MISSING
    min_count: int = 5
    """Words rarer than this in the corpus are dropped; occurrences."""
    max_vocab: int = 0
    """Keep only this many of the commonest words; 0 keeps all."""

    def __post_init__(self) -> None:
        _check_name("corpus", self)
        _check("corpus.min_count", self.min_count, self.min_count >= 1, "at least 1")
        _check(
            "corpus.max_vocab",
            self.max_vocab,
            self.max_vocab == 0 or self.max_vocab >= 2,
            "0 (all) or at least 2",
        )


@dataclass
class Sample(CorpusConfig):
    """The English Wikipedia extract that gensim ships: real text, always there."""

    name: str = "sample"


@dataclass
class Planted(CorpusConfig):
    """Synthetic text from a known relation table."""

    name: str = "planted"


@dataclass
class Downloaded(CorpusConfig):
    path: str = ""
    """A local copy of the zip; empty downloads it into data_dir."""
    url: str = ""
    """A mirror to download the zip from; empty takes the original site."""


@dataclass
class Text8(Downloaded):
    """The first 100 MB of cleaned English Wikipedia of 2006 (mattmahoney.net)."""

    name: str = "text8"


@dataclass
class Fil9(Downloaded):
    """The same from its first 1 GB."""

    name: str = "fil9"
    min_count: int = 10


@dataclass
class Wikipedia(CorpusConfig):
    """`wikimedia/wikipedia` through Hugging Face datasets, or local parquet / arrow files of it."""

    name: str = "wikipedia"
    min_count: int = 10
    path: str = ""
    """Local .parquet / .arrow file or a folder of them, with a column `text`; empty streams it from the hub."""
    snapshot: str = "20231101.en"
    """Date and language of the dump."""
    cleaning: Cleaning = Cleaning.text8
    """text8: a-z and spelled-out digits; unicode: lower-cased words of any script."""
    max_documents: int = 0
    """Take only the first so many articles; 0 takes all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(
            "corpus.max_documents", self.max_documents, self.max_documents >= 0, "0 (all) or more"
        )


@dataclass
class TextFile(CorpusConfig):
    """A file of words between blanks: .txt, .gz, .bz2, .xz or .zst; one document a line, or one long line."""

    name: str = "file"
    path: str = ""
    """The file; it must be given."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(
            "corpus.path", "nothing", bool(self.path), "the path of a text file (with corpus=file)"
        )


@dataclass
class StreamConfig:
    """How examples are made of text: the same for every model."""

    architecture: Architecture = Architecture.cbow
    """cbow: the mean of the context predicts the word; skipgram: each context word alone does."""
    window: int = 8
    """Largest distance of a context word, in kept words; each position draws its own from 1 to this."""
    num_negatives: int = 25
    """K: negatives a positive, drawn from count^0.75."""
    subsample_threshold: float = 1e-4
    """t: a word of frequency f is kept with probability min(1, sqrt(t/f) + t/f); 0 keeps all."""
    batch_size: int = 0
    """B: positions a step; all gradients of a step are taken before it. 0 takes 32 for CBOW, 2 with
    train.context_gradient=whole, 16 for skip-gram (whose positions have about 9 examples each): larger steps overshoot."""
    group_size: int = 0
    """Positions that share one draw of negatives; 0 takes batch_size; 1: every example (in skip-gram every pair) draws its own."""
    shared_negatives: int = 0
    """S: negatives drawn for a group, each weighted K/S; not used with group_size=1. 0 takes 16 for CBOW,
    32 with train.context_gradient=whole, 64 for skip-gram."""

    def __post_init__(self) -> None:
        _check("stream.window", self.window, 1 <= self.window <= 100, "from 1 to 100")
        _check(
            "stream.num_negatives",
            self.num_negatives,
            1 <= self.num_negatives <= 1000,
            "from 1 to 1,000",
        )
        _check(
            "stream.batch_size",
            self.batch_size,
            0 <= self.batch_size <= 65536,
            "from 1 to 65,536, or 0 for the default",
        )
        _check(
            "stream.group_size",
            self.group_size,
            0 <= self.group_size <= 65536,
            "from 1 to 65,536, or 0 for batch_size",
        )
        _check(
            "stream.shared_negatives",
            self.shared_negatives,
            0 <= self.shared_negatives <= 65536,
            "from 1 to 65,536, or 0 for the default",
        )
        _check_finite_floats("stream", self)
        t = self.subsample_threshold
        _check("stream.subsample_threshold", t, t >= 0, "0 (keep all) or more")


@dataclass
class ModelConfig:
    """Which net is trained."""

    name: str = MISSING
    output_init_scale: float = 0.0
    """Start of the output embedding, in units of the parametrization's own deviation; 0 starts it at zero."""

    def __post_init__(self) -> None:
        _check_name("model", self)
        _check_finite_floats("model", self)
        _check(
            "model.output_init_scale",
            self.output_init_scale,
            self.output_init_scale >= 0,
            "0 or more",
        )


@dataclass
class Finite(ModelConfig):
    """A net of finite width."""

    name: str = "finite"
    width: int = 256
    """n: columns of the embeddings."""
    parametrization: Parametrization = Parametrization.mup
    """How initial sizes and step sizes depend on the width (TP4 Table 1)."""
    exponents: list[float] = field(default_factory=list)
    """With parametrization=custom: a1, b1, a2, b2, c (TP4 Definition 3.1)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check("model.width", self.width, 1 <= self.width <= 1_000_000, "from 1 to 1,000,000")
        custom = self.parametrization is Parametrization.custom
        want = 5 if custom else 0
        rule = (
            "five numbers [a1,b1,a2,b2,c] with model.parametrization=custom, and absent otherwise"
        )
        ok = len(self.exponents) == want and all(
            math.isfinite(e) and abs(e) <= 4 for e in self.exponents
        )
        _check("model.exponents", self.exponents, ok, rule + " (each within +-4)")


@dataclass
class NtkLimit(ModelConfig):
    """The infinite-width limit in which embeddings stay where they start."""

    name: str = "ntk_limit"


@dataclass
class MupLimit(ModelConfig):
    """The infinite-width limit in which embeddings learn."""

    name: str = "mup_limit"
    engine: Engine = Engine.dense
    """dense: exact, two V x V tables; lowrank: exact on `rank` directions, first order outside them (docs/lowrank.md)."""
    dtype: Dtype = Dtype.float32
    """How the dense engine holds its coefficients: bfloat16 takes half the memory, rounds stochastically, computes in float32."""
    rank: int = 0
    """r: directions of the lowrank engine, at most with model.tolerance; 0 takes 256 (1,024), or all V words if they are fewer."""
    tolerance: float = 0.0
    """Share of what the first epochs learn that may lie outside the lowrank engine's directions: takes as few as will do. 0: model.rank."""
    pair_table_gib: float = 0.0
    """GiB that the lowrank engine's memory of word pairs may take; 0 takes what it needs, up to most of what is free."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check("model.rank", self.rank, self.rank >= 0, "at least 1, or 0 for the default")
        _check(
            "model.tolerance",
            self.tolerance,
            0 <= self.tolerance < 1,
            "above 0 and below 1, or 0 to take model.rank",
        )
        _check(
            "model.pair_table_gib",
            self.pair_table_gib,
            self.pair_table_gib >= 0,
            "above 0, or 0 for the default",
        )
        if self.engine is Engine.dense:
            _check(
                "model.rank",
                self.rank,
                self.rank == 0,
                "absent with model.engine=dense (it is for lowrank)",
            )
            _check(
                "model.tolerance",
                self.tolerance,
                self.tolerance == 0,
                "absent with model.engine=dense (it is for lowrank)",
            )
            _check(
                "model.pair_table_gib",
                self.pair_table_gib,
                self.pair_table_gib == 0,
                "absent with model.engine=dense (it is for lowrank)",
            )
        else:
            _check(
                "model.dtype",
                self.dtype.value,
                self.dtype is Dtype.float32,
                "float32 with model.engine=lowrank",
            )
            _check(
                "model.output_init_scale",
                self.output_init_scale,
                self.output_init_scale == 0,
                "0 with model.engine=lowrank",
            )


@dataclass
class TrainConfig:
    """How long and how far it steps."""

    epochs: int = 5
    """Passes over the corpus."""
    lr: float = 0.0
    """Step size of the first example, dimensionless; falls linearly with the words seen. 0 takes 0.05 for CBOW and 0.025
    for skip-gram, as word2vec.c."""
    weight_decay: float = 0.001
    """A row touched m times in a step is first multiplied by (1 - lr weight_decay)^m."""
    context_gradient: ContextGradient = ContextGradient.divided
    """divided: the gradient of the mean context, as TP4; whole: each context word gets all of the hidden vector's gradient, as
    word2vec.c and gensim do (steps on u about 9 times larger in CBOW; the same in skip-gram)."""
    sigmoid: Sigmoid = Sigmoid.exact
    """exact, or the look-up table of the authors' program with its off-by-0.19 slip (tp4)."""
    resume: Resume = Resume.auto
    """auto: an interrupted run goes on from its last checkpoint; never: it starts anew, without its checkpoints."""
    log: Log = Log.jsonl
    """jsonl: metrics.jsonl; tensorboard: an event file beside it too."""

    def __post_init__(self) -> None:
        _check("train.epochs", self.epochs, 1 <= self.epochs <= 10_000, "from 1 to 10,000")
        _check_finite_floats("train", self)
        _check("train.lr", self.lr, self.lr >= 0, "above 0, or 0 for the architecture's default")
        _check("train.weight_decay", self.weight_decay, self.weight_decay >= 0, "0 or more")


@dataclass
class EvaluateConfig:
    """What is asked of a model."""

    embedding: Embedding = Embedding.input
    """Which vectors answer the questions: input (u), output (w) or their sum."""
    limit_run: str = ""
    """Folder of the infinite-width limit's run; evaluate.py then adds the distance to it to the run's summary."""
    vectors: str = ""
    """A file of word vectors, word2vec's text or binary format, from anywhere: evaluated or drawn instead of a run."""


class VectorMethod(Enum):
    auto = "auto"
    own = "own"
    principal = "principal"
    sample = "sample"
    fit = "fit"


class VectorFormat(Enum):
    text = "text"
    binary = "binary"
    gensim = "gensim"


@dataclass
class ExportConfig:
    """Vectors for other programs (scripts/export.py)."""

    method: VectorMethod = VectorMethod.auto
    """own: every column of the model; principal: the leading factor of its Gram matrix; sample: a finite net drawn from it;
    fit: the vectors whose cosines come closest. auto takes own for a finite net at its own width, else fit."""
    dimension: int = 0
    """Columns; 0 is the finite net's own width, or 300."""
    format: VectorFormat = VectorFormat.text
    """text or binary as word2vec.c writes them, or the file that gensim's KeyedVectors.load reads."""
    out: str = ""
    """File to write; empty is vectors-METHOD-DIMENSION in run_dir."""

    def __post_init__(self) -> None:
        _check(
            "export.dimension",
            self.dimension,
            0 <= self.dimension <= 1_000_000,
            "from 1 to 1,000,000, or 0 for the default",
        )


class Figure(Enum):
    all = "all"
    accuracy = "accuracy"
    sections = "sections"
    loss = "loss"
    pca = "pca"
    width = "width"
    transfer = "transfer"


@dataclass
class PlotConfig:
    """Figures (scripts/plot.py) and the report (scripts/report.py)."""

    figure: Figure = Figure.all
    """Accuracy by epoch, by section, loss, map of cities and states, accuracy by width, or all of these; or, of a sweep over
    model.width and train.lr, a map of its losses (transfer)."""
    runs: list[str] = field(default_factory=list)
    """Run folders, or folders that hold some; empty takes run_dir."""
    out: str = ""
    """Folder for the figures; empty is figures/ beside the runs."""


class Profile(Enum):
    auto = "auto"
    smoke = "smoke"
    laptop = "laptop"
    paper = "paper"


@dataclass
class ReproduceConfig:
    """The whole comparison (scripts/reproduce.py, make reproduce)."""

    profile: Profile = Profile.auto
    """How much is done, conf/experiment/PROFILE.yaml; auto takes the corpus's own file there, or the
    largest profile whose estimate fits."""
    widths: list[int] = field(default_factory=lambda: [64, 256])
    """Widths of the finite muP nets."""
    seeds: int = 1
    """Seeds of each finite width; the limits are trained once, on the stream of the first seed."""
    minutes: float = 60.0
    """Wall time by estimate up to which profile=auto takes a profile."""

    def __post_init__(self) -> None:
        _check(
            "reproduce.widths",
            self.widths,
            bool(self.widths) and min(self.widths) >= 1,
            "a list of widths of at least 1",
        )
        _check("reproduce.minutes", self.minutes, self.minutes > 0, "above 0")
        _check("reproduce.seeds", self.seeds, 1 <= self.seeds <= 100, "from 1 to 100")
        _check_finite_floats("reproduce", self)


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
    """auto takes a GPU where there is one."""
    num_threads: int = 0
    """CPU threads; 0 takes every core."""
    seed: int = 0
    """Of everything random: the start, and which examples are drawn."""
    run_dir: str = ""
    """Folder of the run; empty is CORPUS-ARCHITECTURE/MODEL-seedN in runs_dir."""
    runs_dir: str = str(PROJECT_ROOT / "runs")
    """Where runs and reports go by default."""
    data_dir: str = str(PROJECT_ROOT / "data" / "cache")
    """Downloads and encoded corpora."""

    def __post_init__(self) -> None:
        _check("seed", self.seed, 0 <= self.seed < 2**63, "from 0 to 2^63 - 1")
        self._fill_in_what_depends_on_the_architecture()
        group, batch = self.stream.group_size, self.stream.batch_size
        _check("stream.group_size", group, group <= batch, f"at most stream.batch_size = {batch}")
        decay = self.train.lr * self.train.weight_decay
        _check(
            "train.weight_decay",
            self.train.weight_decay,
            decay < 1,
            f"below 1 / train.lr = {1 / self.train.lr:g}",
        )
        _check(
            "num_threads",
            self.num_threads,
            0 <= self.num_threads <= 1024,
            "from 0 (every core) to 1,024",
        )

    def _fill_in_what_depends_on_the_architecture(self) -> None:
        # Not in StreamConfig: Hydra makes one with the default architecture before it applies the overrides.
        stream, skipgram = self.stream, self.stream.architecture is Architecture.skipgram
        whole = self.train.context_gradient is ContextGradient.whole
        stream.batch_size = stream.batch_size or (16 if skipgram else 2 if whole else 32)
        stream.group_size = stream.group_size or stream.batch_size
        stream.shared_negatives = stream.shared_negatives or (
            64 if skipgram else 32 if whole else 16
        )
        self.train.lr = self.train.lr or (0.025 if skipgram else 0.05)


CORPORA = (Text8, Fil9, Wikipedia, Sample, Planted, TextFile)
MODELS = (Finite, NtkLimit, MupLimit)


def register() -> None:
    """Make the schema and the group members known to Hydra."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    for group, members in (("corpus", CORPORA), ("model", MODELS)):
        for member in members:
            store.store(group=group, name=member.name, node=member)


def save(config: Config, path: Path) -> None:
    """Write the resolved options of a run as YAML; those of later stages are left out."""
    resolved = OmegaConf.structured(config)
    OmegaConf.save(
        {name: resolved[name] for name in resolved if name not in ("export", "plot", "reproduce")},
        path,
    )


def read(path: Path) -> Config:
    """Options as `save` wrote them. Raises: UserError for a file that is not such options."""
    try:
        saved: Any = OmegaConf.load(path)
        schema = OmegaConf.structured(Config)
        for group, members in (("corpus", CORPORA), ("model", MODELS)):
            chosen = {member.name: member for member in members}[saved[group]["name"]]
            schema[group] = OmegaConf.structured(chosen)
        merged = OmegaConf.merge(schema, saved)
        assert isinstance(merged, DictConfig)
        return load(merged)
    except (
        OSError,
        UnicodeDecodeError,
        KeyError,
        TypeError,
        YAMLError,
        OmegaConfBaseException,
        UserError,
    ) as error:
        raise UserError(
            f"{path} does not hold the options of a run ({str(error).splitlines()[0]}): train again"
        ) from error


def quote_override(name: str, value: Any) -> str:
    """`name=value` in Hydra's grammar, in quotes where the grammar needs them."""
    return f"{name}={_quote(value)}"


def _quote(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_quote, value))}]"
    if value is None:
        return "null"
    text = str(value.value if isinstance(value, Enum) else value)
    if re.fullmatch(r"[\w.+/-]+", text, re.ASCII):
        return text
    # Hydra reads a backslash as an escape only before a quotation mark.
    escaped = re.sub(r'(\\*)"', r"\1\1\"", re.sub(r"(\\+)$", r"\1\1", text))
    return f'"{escaped}"'


def load(cfg: DictConfig) -> Config:
    """Turn Hydra's config into dataclasses; ranges are checked on the way.

    Raises: UserError for a key that no dataclass declares and for values out of range.
    """
    try:
        config = OmegaConf.to_object(cfg)
        OmegaConf.structured(config)  # an interpolation can put in what its field does not take
    except OmegaConfBaseException as error:
        cause = error.__cause__ or error.__context__
        raise UserError(
            str(cause if isinstance(cause, UserError) else error).splitlines()[0]
        ) from error
    assert isinstance(config, Config)
    _reject_undeclared(config, "")
    return config


def _reject_undeclared(node: Any, prefix: str) -> None:
    names = [f.name for f in dataclasses.fields(node)]
    for key in vars(node):
        if key not in names:
            raise UserError(f"{prefix}{key} is not an option; allowed here: {', '.join(names)}")
    for name in names:
        child = getattr(node, name)
        if dataclasses.is_dataclass(child):
            _reject_undeclared(child, f"{prefix}{name}.")
