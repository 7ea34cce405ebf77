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
Images = StrEnum(
    "Images", {"auto": "auto", "omniglot": "omniglot", "small": "small", "planted": "planted"}
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


@dataclass
class MamlConfig:
    """First-order MAML at infinite width (`w2v-inf maml`, make maml)."""

    images: Images = Images.auto
    """omniglot: all characters; small: its small background sets and one-shot runs; planted:
    generated classes; auto: what is in maml.path, or the first of these that can be had."""
    path: str = path_option()
    """Folder of Omniglot's zips, or of what they hold; empty: they are downloaded to data_dir."""
    widths: list[int] = field(default_factory=lambda: [2, 8, 32, 128, 512])
    """Widths of the finite networks."""
    seeds: int = 3
    """Seeds of each learner, from `seed` on; at least 2, for intervals."""
    updates: int | None = None
    """Outer steps. null: 10,000 as the paper takes, 1,000 for planted images."""
    tasks: int = 3200
    """Tasks of each validation and of the test."""
    betas: list[float] = field(default_factory=list)
    """Multipliers of the hidden bias to train with; the best validation decides. Empty: the
    authors' choice for each width."""

    def __post_init__(self) -> None:
        for width in self.widths:
            check_range("maml.widths", width, 1, 1_000_000)
        is_set = len({*self.widths}) == len(self.widths)
        check("maml.widths", self.widths, is_set, "different widths")
        check_range("maml.seeds", self.seeds, 2, 1000)
        check_range("maml.updates", self.updates, 1, 10_000_000, "the default")
        check_range("maml.tasks", self.tasks, 1, 1_000_000)
        are_valid = all(0 <= beta <= 1000 for beta in self.betas)
        check("maml.betas", self.betas, are_valid, "a list of numbers from 0 to 1,000")
