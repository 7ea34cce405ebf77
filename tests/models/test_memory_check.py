"""What fits the free memory, over several processes too."""

import pytest
import torch

from w2v_inf import distributed
from w2v_inf.config import Finite, MupLimit
from w2v_inf.errors import UserError
from w2v_inf.models import memory_check


def test_memory_is_counted_per_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two 80 GB cards hold fil9's tables in bfloat16, not in float32; one says how many would."""
    monkeypatch.setattr(
        memory_check,
        "free_bytes",
        lambda device: 79 * memory_check.GIB if device.type == "cuda" else 8 * memory_check.GIB,
    )
    card, fil9, paper = torch.device("cuda"), 142_276, MupLimit()
    with pytest.raises(
        UserError,
        match=r"151.3 GiB for V=142,276, cuda has 79.0 GiB free: model.dtype=bfloat16 fits|--nproc-per-node=2",
    ):
        memory_check.check_memory(paper, fil9, card)
    memory_check.check_memory(paper, 71_290, card)
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    memory_check.check_memory(paper, fil9, card)
    with pytest.raises(
        UserError,
        match=r"GiB a rank for V=280,000, cuda has 79.0 GiB free: torchrun --nproc-per-node=8 fits on 8 such cards",
    ):
        memory_check.check_memory(paper, 280_000, card)
    with pytest.raises(
        UserError, match="torchrun --nproc-per-node=3 fits on 3 such cards, model.width="
    ):
        memory_check.check_memory(Finite(width=100_000), 271_951, card)
