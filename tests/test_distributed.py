"""The helpers of a job of processes; tests/models/test_column_parallel.py runs jobs of several."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from w2v_inf import distributed
from w2v_inf.errors import UserError


def test_one_process_without_torchrun() -> None:
    assert not distributed.is_launched()
    with distributed.process_group():
        assert distributed.world_size() == distributed.local_world_size() == 1
        assert distributed.rank() == distributed.local_rank() == 0
        assert distributed.is_main_process()
        assert distributed.all_reduce_max(3, 5) == [3, 5]
        x = torch.ones(2)
        assert distributed.all_reduce_sum(x) is x and x.tolist() == [1, 1]
        assert distributed.broadcast(lambda: "made") == "made"


def test_a_group_of_the_caller_is_not_ours(tmp_path: Path) -> None:
    """In his program one process may call us: it must not wait for the others."""
    where = f"file://{tmp_path}/store"
    dist.init_process_group("gloo", init_method=where, rank=0, world_size=1)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(dist, "get_world_size", lambda: 2)  # as in a job of two
            patch.setattr(dist, "get_rank", lambda: 1)
            assert distributed.world_size() == 1 and distributed.is_main_process()
            assert distributed.broadcast(lambda: "made") == "made"
            assert distributed.all_reduce_max(3) == [3]
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("total", [0, 2, 3, 7, 391])
def test_shards_partition_the_items(total: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    shards = [distributed.shard_range(total, process) for process in range(3)]
    assert [item for shard in shards for item in shard] == list(range(total))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    assert distributed.shard_range(total) == shards[1]


def test_only_the_main_process_writes_into_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with distributed.folder_to_write(tmp_path) as folder:
        assert folder == tmp_path
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    with distributed.folder_to_write(tmp_path) as folder:
        assert folder != tmp_path and folder.is_dir()
    assert not folder.exists() and tmp_path.exists()


def test_a_lost_process_is_reported_in_one_line() -> None:
    gloo = "[/pytorch/gloo/pair.cc:1] Connection closed by peer [::1]:1. This may be a bug.\nat 1"
    said = r"has ended or cannot be reached \(summing: Connection closed by peer \[::1\]:1\): see"
    with pytest.raises(UserError, match=said), distributed._collective("summing"):
        raise RuntimeError(gloo)
