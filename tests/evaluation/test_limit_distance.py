"""The distance of a run to the infinite-width limit."""

from pathlib import Path

import pytest
import torch
from small_runs import small_config

from w2v_inf.errors import UserError
from w2v_inf.evaluation.evaluate import evaluate
from w2v_inf.evaluation.limit_distance import limit_distance
from w2v_inf.runs.folder import Summary
from w2v_inf.training.train import train


def test_limit_distance_by_hand() -> None:
    limit = torch.tensor([[1, 0.5, 0.1], [0.5, 1, 0.3], [0.1, 0.3, 1.0]], dtype=torch.float64)
    assert limit_distance(limit, limit) == {"gram_error": 0.0, "neighbour_overlap": 1.0, "words": 3}
    # A common component adds a constant to all cosines, and is subtracted.
    assert limit_distance(limit + 0.2, limit)["gram_error"] == pytest.approx(0, abs=1e-12)
    assert limit_distance(2 * limit, limit)["gram_error"] == pytest.approx(1)
    assert limit_distance(limit, torch.ones(3, 3))["gram_error"] is None


@pytest.mark.slow  # trains whole runs
def test_distance_to_the_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    limit = train(small_config(tmp_path, "model=mup_limit", run="limit"))
    run = train(small_config(tmp_path, "model.width=8", run="run"))
    assert Summary.load(run).limit_distance is None
    evaluate(small_config(tmp_path, f"evaluate.limit_run={limit}", run="run"))
    distance = Summary.load(run).limit_distance
    assert distance is not None and distance["words"] == 30
    assert 0 < distance["gram_error"] and 0 <= distance["neighbour_overlap"] <= 1
    numbers = f"{distance['gram_error']:.3f}, neighbour overlap {distance['neighbour_overlap']:.3f}"
    last_line = capsys.readouterr().out.splitlines()[-1]
    assert last_line.split() == [
        *"distance to the limit cosine-Gram error".split(),
        *f"{numbers} (the 30 commonest words)".split(),
    ]
    other = train(small_config(tmp_path, "corpus.max_vocab=20", "model=mup_limit", run="other"))
    with pytest.raises(UserError, match="evaluate.limit_run must have the vocabulary"):
        evaluate(small_config(tmp_path, f"evaluate.limit_run={other}", run="run"))
    with pytest.raises(
        UserError,
        match="evaluate.limit_run must be a run of model=mup_limit, .* holds model=finite",
    ):
        evaluate(small_config(tmp_path, f"evaluate.limit_run={run}", run="run"))
