"""What fits into the free memory, and the advice where a model does not."""

from collections.abc import Callable

import pytest
import torch

from w2v_inf import distributed
from w2v_inf.config import Engine, Finite, ModelConfig, MupLimit
from w2v_inf.errors import UserError
from w2v_inf.models import memory_check
from w2v_inf.models.memory_check import GIB, check_memory, model_bytes

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def set_free(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the free memory of the CPU and of a GPU, in GiB."""

    def set_free(cpu: float, gpu: float = 0) -> None:
        gib = {"cpu": cpu, "cuda": gpu}
        monkeypatch.setattr(memory_check, "free_bytes", lambda device: int(gib[device.type] * GIB))

    return set_free


def lowrank(**options) -> ModelConfig:
    return MupLimit(engine=Engine.lowrank, **options)


def test_a_pair_table_that_does_not_fit(set_free: Callable[..., None]) -> None:
    set_free(cpu=4)
    said = (
        "model.pair_table_gib=9 and the tables of rank 256 take .* cpu has 4.0 GiB free: "
        "lower model.pair_table_gib"
    )
    with pytest.raises(UserError, match=said):
        check_memory(lowrank(pair_table_gib=9.0), 50_000, CPU)


@pytest.mark.parametrize("loading", [False, True])
def test_the_advised_rank_is_the_largest_that_fits(
    loading: bool, set_free: Callable[..., None]
) -> None:
    set_free(cpu=5)
    with pytest.raises(UserError, match=r"model=mup_limit needs .*: model.rank=\d+ fits") as error:
        check_memory(lowrank(rank=5000), 50_000, CPU, loading)
    rank = int(str(error.value).split("model.rank=")[1].split()[0])
    check_memory(lowrank(rank=rank), 50_000, CPU, loading)
    with pytest.raises(UserError):
        check_memory(lowrank(rank=rank + 2), 50_000, CPU, loading)


def test_loading_needs_no_pilot_run(set_free: Callable[..., None]) -> None:
    set_free(cpu=2)
    with pytest.raises(UserError, match=r"model=mup_limit needs 2\.5 GiB for V=2,000"):
        check_memory(lowrank(), 2000, CPU)
    check_memory(lowrank(), 2000, CPU, loading=True)
    for options in (Finite(width=9), MupLimit(), MupLimit(output_init_scale=1.0)):
        assert model_bytes(options, 2000, loading=True) == model_bytes(options, 2000)


def test_columns_are_split_over_gpus(
    set_free: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two GPUs of 80 GB hold fil9's tables in bfloat16, not in float32; the advice counts GPUs."""
    set_free(cpu=8, gpu=79)
    fil9, limit = 142_276, MupLimit()
    said = "151.3 GiB for V=142,276, cuda has 79.0 GiB free: model.dtype=bfloat16 fits"
    with pytest.raises(UserError, match=said) as error:
        check_memory(limit, fil9, GPU)
    assert "--nproc-per-node=2" in str(error.value)
    check_memory(limit, 71_290, GPU)
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    check_memory(limit, fil9, GPU)
    said = (
        "GiB per process for V=280,000, cuda has 79.0 GiB free: "
        "torchrun --nproc-per-node=8 fits on 8 such GPUs"
    )
    with pytest.raises(UserError, match=said):
        check_memory(limit, 280_000, GPU)
    said = "torchrun --nproc-per-node=3 fits on 3 such GPUs, model.width="
    with pytest.raises(UserError, match=said):
        check_memory(Finite(width=100_000), 271_951, GPU)
