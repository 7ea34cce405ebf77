"""Every option: its name, default, unit and range. No other file knows them.

Decisions:
- The groups `corpus` and `model` have one dataclass per member. So `model=ntk_limit model.width=64`
  is an error.
- A member has a field `name`, because the saved options do not record which member was chosen.
- null (None) means a default that depends on other options or on the machine, never 0. `Config`
  fills in those of `stream` and `train`.
- compose.py turns command lines and files into a `Config`. conf/ holds YAML over these classes.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from w2v_inf.config.corpus import (
    Cleaning,
    CorpusConfig,
    Downloaded,
    Fil9,
    Planted,
    Sample,
    Text8,
    TextFile,
    Wikipedia,
)
from w2v_inf.config.model import (
    Dtype,
    Engine,
    Finite,
    ModelConfig,
    MupLimit,
    NtkLimit,
    Parametrization,
)
from w2v_inf.config.stages import (
    Baseline,
    BaselineConfig,
    Embedding,
    EvaluateConfig,
    ExploreConfig,
    ExportConfig,
    Figure,
    Images,
    MamlConfig,
    PlotConfig,
    Profile,
    ReproduceConfig,
    VectorFormat,
    VectorMethod,
)
from w2v_inf.config.training import (
    Architecture,
    ContextGradient,
    Log,
    Resume,
    Sigmoid,
    StreamConfig,
    TrainConfig,
)
from w2v_inf.errors import check, check_range
from w2v_inf.paths import expand_paths, path_option

PACKAGE = Path(__file__).resolve().parents[1]
IS_CHECKOUT = (PACKAGE.parent / "pyproject.toml").is_file()
PROJECT_ROOT = PACKAGE.parent if IS_CHECKOUT else Path()
"""Folder of runs/ and data/: the checkout, or the current folder for an installed package."""
CONF = PACKAGE / "conf"
"""In a checkout a link to the folder at the top; a wheel has the files themselves."""

Device = StrEnum("Device", {"auto": "auto", "cpu": "cpu", "cuda": "cuda"})


@dataclass
class Config:
    corpus: CorpusConfig = MISSING
    stream: StreamConfig = field(default_factory=StreamConfig)
    model: ModelConfig = MISSING
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    baseline: BaselineConfig = field(default_factory=BaselineConfig)
    plot: PlotConfig = field(default_factory=PlotConfig)
    explore: ExploreConfig = field(default_factory=ExploreConfig)
    reproduce: ReproduceConfig = field(default_factory=ReproduceConfig)
    maml: MamlConfig = field(default_factory=MamlConfig)
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
