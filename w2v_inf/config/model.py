"""The options of each model."""

import math
from dataclasses import dataclass, field
from enum import StrEnum

from omegaconf import MISSING

from w2v_inf.config.checks import check_finite, check_name
from w2v_inf.errors import check, check_range

Dtype = StrEnum("Dtype", {"float32": "float32", "bfloat16": "bfloat16"})
Engine = StrEnum("Engine", {"dense": "dense", "lowrank": "lowrank"})
Parametrization = StrEnum(
    "Parametrization", {"mup": "mup", "ntp": "ntp", "sp": "sp", "mfp": "mfp", "custom": "custom"}
)


@dataclass
class ModelConfig:
    """Which network is trained."""

    name: str = MISSING
    output_init_scale: float = 0.0
    """Standard deviation of the initial output embedding, in units of the parametrization's; 0: w
    starts at zero."""

    def __post_init__(self) -> None:
        check_name("model", self)
        check_finite("model", self)
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
