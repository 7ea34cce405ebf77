"""The evaluation stage: the same numbers as after training, other vectors, and its table."""

import errno
from pathlib import Path

import pytest
from composed import config_of
from small_runs import small_config

from w2v_inf import files
from w2v_inf.errors import UserError
from w2v_inf.evaluation.evaluate import evaluate
from w2v_inf.evaluation.format import format_evaluation
from w2v_inf.runs.folder import Summary, finished_folder, run_folder
from w2v_inf.system_errors import system_error
from w2v_inf.training.train import train


@pytest.mark.slow  # trains a run
def test_evaluating_again_gives_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train(small_config(tmp_path, "model=mup_limit", run="run"))
    evaluation = Summary.load(folder).evaluation
    assert evaluate(small_config(tmp_path, run="run")) == evaluation
    table = format_evaluation(evaluation)
    assert capsys.readouterr().out == f"{table}\n" and "3CosAdd" in table
    assert table.count("\n") == 21 and "gram9-plural-verbs" in table and "simlex999" in table
    other = evaluate(small_config(tmp_path, "evaluate.embedding=sum", run="run"))
    assert other["protocol"]["embedding"] == "sum"
    assert (folder / "evaluation-sum.json").exists()


def test_a_default_folder_without_a_run_is_called_so(tmp_path: Path) -> None:
    """The user named no folder, so its name alone would say nothing."""
    where = f"{tmp_path}/sample-cbow/mup-256-seed0"
    with pytest.raises(UserError) as caught:
        evaluate(config_of(f"runs_dir={tmp_path}"))
    what_to_do = "(the default for these options): give run_dir=FOLDER"
    assert str(caught.value) == f"no finished run at {where} {what_to_do}"
    with pytest.raises(UserError, match=rf"{tmp_path}/x/summary.json not found: run w2v-inf train"):
        evaluate(config_of(f"run_dir={tmp_path}/x"))


def test_a_result_that_cannot_be_saved_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "v.txt"
    path.write_text("2 2\nking 1 0\nqueen 1 2\n")

    def refuse(target: Path, write: object) -> None:
        raise system_error(target, PermissionError(errno.EACCES, "Permission denied"), "written")

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_atomically", refuse)
        with pytest.raises(UserError) as caught:
            evaluate(config_of(f"evaluate.vectors={path}"))
    said = str(caught.value)
    assert said.startswith(f"the result is printed, but not saved: {path}.evaluation.json cannot")
    assert said.endswith("set evaluate.out") and "gram9-plural-verbs" in capsys.readouterr().out
    out = tmp_path / "own" / "result.json"
    evaluate(config_of(f"evaluate.vectors={path}", f"evaluate.out={out}"))
    assert files.read_json(out)["protocol"]["vocabulary"] == 2


def test_a_finished_run_is_found_whatever_is_asked_of_it(tmp_path: Path) -> None:
    """evaluate with the options of the training, and other vectors."""
    options = [f"runs_dir={tmp_path}", "model.width=8", "train.epochs=1"]
    for trained in ("input", "sum"):
        config = config_of(*options, f"evaluate.embedding={trained}")
        folder = run_folder(config)
        folder.mkdir(parents=True)
        (folder / "summary.json").touch()
        for asked in ("output", trained):
            assert finished_folder(config_of(*options, f"evaluate.embedding={asked}")) == folder
        (folder / "summary.json").unlink()
