"""The evaluation stage: the same numbers as after training, other vectors, and its table."""

from pathlib import Path

import pytest
from small_runs import small_config

from w2v_inf.evaluation.evaluate import evaluate, format_evaluation
from w2v_inf.runs.folder import Summary
from w2v_inf.training.train import train

pytestmark = pytest.mark.slow  # trains a run


def test_evaluating_again_gives_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train(small_config(tmp_path, "model=mup_limit", run="run"))
    evaluation = Summary.load(folder).evaluation
    assert evaluate(small_config(tmp_path, run="run")) == evaluation
    table = format_evaluation(evaluation)
    assert capsys.readouterr().out == f"{table}\n" and "3CosAdd" in table
    assert table.count("\n") == 20 and "gram9-plural-verbs" in table and "simlex999" in table
    other = evaluate(small_config(tmp_path, "evaluate.embedding=sum", run="run"))
    assert other["protocol"]["embedding"] == "sum"
    assert (folder / "evaluation-sum.json").exists()
