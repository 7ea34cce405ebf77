"""From options to a model: its rule, its columns, and what cannot be split over processes."""

import pytest
import torch

from w2v_inf import distributed
from w2v_inf.config import (
    Config,
    ContextGradient,
    Device,
    Engine,
    Finite,
    ModelConfig,
    MupLimit,
    NtkLimit,
    Parametrization,
    Sample,
    Sigmoid,
    TrainConfig,
)
from w2v_inf.errors import UserError
from w2v_inf.models.build import _check_processes, build_model
from w2v_inf.models.linear import LinearModel
from w2v_inf.models.lowrank.model import LowRankLimit
from w2v_inf.models.ntk_limit import NtkLimit as NtkModel
from w2v_inf.models.parametrization import ABC, finite_scales

TRAIN = TrainConfig(
    weight_decay=0.01, sigmoid=Sigmoid.tp4, context_gradient=ContextGradient.whole, lr=0.01
)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        (Finite(width=6, parametrization=Parametrization.ntp), LinearModel),
        (MupLimit(), LinearModel),
        (MupLimit(engine=Engine.lowrank), LowRankLimit),
        (NtkLimit(), NtkModel),
    ],
)
def test_every_model_takes_the_rule_of_the_options(options: ModelConfig, kind: type) -> None:
    """Finite networks have the learning-rate factors of their parametrization as well."""
    config = Config(corpus=Sample(), model=options, train=TRAIN, device=Device.cpu)
    model = build_model(config, 9)
    assert isinstance(model, kind) and model.rule.weight_decay == 0.01
    assert model.rule.tp4 and model.rule.whole_gradient
    factors = (1.0, 1.0)
    if isinstance(options, Finite):
        factors = finite_scales(ABC[Parametrization.ntp], 6)[1]
    assert model.rule.lr_factors == factors


def test_columns_are_those_of_the_options() -> None:
    sizes = {}
    for options in (Finite(width=6), MupLimit(), MupLimit(output_init_scale=0.5)):
        model = build_model(Config(corpus=Sample(), model=options, device=Device.cpu), 9)
        assert isinstance(model, LinearModel) and model.u.dtype is torch.float32
        sizes[options.name, options.output_init_scale] = tuple(model.u.shape)
    assert list(sizes.values()) == [(9, 6), (9, 9), (9, 18)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            MupLimit(engine=Engine.lowrank),
            "model.engine=lowrank runs in one process, and this job has 4",
        ),
        (NtkLimit(), "model=ntk_limit runs in one process, and this job has 4"),
        (Finite(width=3), "3 columns cannot be split over 4 processes"),
    ],
)
def test_a_model_that_cannot_be_split_is_refused(
    options: ModelConfig, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 4)
    with pytest.raises(UserError, match=said):
        _check_processes(options, 3)
