"""The options of the stages after the training, and of the whole comparison."""

from dataclasses import dataclass, field
from enum import StrEnum

from w2v_inf.config.checks import check_finite
from w2v_inf.errors import check, check_range
from w2v_inf.paths import path_option

Embedding = StrEnum("Embedding", {"input": "input", "output": "output", "sum": "sum"})
Baseline = StrEnum("Baseline", {"ppmi": "ppmi", "mstar": "mstar"})
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
VectorFormat = StrEnum(
    "VectorFormat",
    {
        "text": "text",
        "binary": "binary",
        "gensim": "gensim",
        "hub": "hub",
        "projector": "projector",
    },
)
VectorMethod = StrEnum(
    "VectorMethod",
    {"auto": "auto", "own": "own", "principal": "principal", "sample": "sample", "fit": "fit"},
)


@dataclass
class EvaluateConfig:
    """Which vectors are evaluated, and what they are asked."""

    embedding: Embedding = Embedding.input
    """Vectors that answer the questions: input (u), output (w) or their sum."""
    limit_run: str = path_option()
    """Run folder of a muP limit; evaluate adds the distance to it to the summary of run_dir."""
    vectors: str = path_option()
    """A file of word vectors (word2vec's text or binary format) to use in place of a run."""
    questions: str = path_option()
    """More analogies: a file, or a folder of files, as questions-words.txt or as BATS has them
    (word, tab, answers with / between)."""
    similarity: str = path_option()
    """More similarities: a file, or a folder of files, of two words and a score per line."""
    compare: list[str] = path_option(list)
    """Run folders and vector files to evaluate side by side, in place of run_dir."""
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
    """text or binary as word2vec.c writes them; gensim: a file for KeyedVectors.load; hub: a folder
    for the Hugging Face hub; projector: a folder for TensorBoard's projector."""
    out: str = path_option()
    """File or folder to write; empty: vectors-METHOD-DIMENSION in run_dir."""
    push: str = ""
    """OWNER/NAME on the Hugging Face hub, to which format=hub uploads the folder as well; a new
    repository is private. The token is HF_TOKEN or that of `hf auth login`."""

    def __post_init__(self) -> None:
        check_range("export.dimension", self.dimension, 1, 1_000_000, "the default")
        ok = not self.push or self.format is VectorFormat.hub
        check("export.push", self.push, ok, "empty unless export.format=hub")


@dataclass
class BaselineConfig:
    """Vectors from counts of word pairs, without training (`w2v-inf baseline`)."""

    method: Baseline = Baseline.ppmi
    """ppmi: positive pointwise mutual information; mstar: the target of Karkada et al. 2025. Pairs
    are counted by stream.window and stream.subsample_threshold."""
    dimension: int = 200
    """Columns: leading eigenvectors, fewer than words."""
    out: str = path_option()
    """File to write; empty: CORPUS/METHOD-DIMENSION.txt in runs_dir."""

    def __post_init__(self) -> None:
        check_range("baseline.dimension", self.dimension, 1, 100_000)


@dataclass
class PlotConfig:
    """Figures (`w2v-inf plot`), the report (`w2v-inf report`) and `w2v-inf explore`."""

    figure: Figure = Figure.all
    """Accuracy by epoch, by section, loss, PCA of cities and states, accuracy by width; transfer:
    loss over model.width and train.lr, of a sweep over both; all: all but transfer."""
    runs: list[str] = path_option(list)
    """Run folders, or folders that hold some; empty: run_dir."""
    out: str = path_option()
    """Folder for the figures; empty: figures/ beside the runs."""


@dataclass
class ExploreConfig:
    """The page to play with (`w2v-inf explore`); plot.runs and plot.out name runs and folder."""

    words: int = 5000
    """Words on the page: those of the groups, and the commonest of the others."""

    def __post_init__(self) -> None:
        check_range("explore.words", self.words, 10, 20_000)


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
        check_finite("reproduce", self)
