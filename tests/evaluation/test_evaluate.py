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


def test_files_of_the_user_come_below_and_are_saved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vectors = tmp_path / "v.txt"
    vectors.write_text("6 3\na 1 0 0\nb 1 1 0\nc 0 0 1\nd 0 1 1\ne -1 -1 -1\nf -1 0 0\n")
    (tmp_path / "bats" / "one").mkdir(parents=True)
    (tmp_path / "bats" / "one" / "i01.txt").write_text("a\tx/b\nc\td/e\nzz\tb\n")
    (tmp_path / "bats" / "q.txt").write_text(": s\nA b c D\na b c nix\n")
    (tmp_path / "bats" / "LICENCE").write_text("not a file of questions")
    (tmp_path / "men.txt").write_text("a b 3\na c 2\nc d 1\nc zz 1\n")
    options = [f"evaluate.questions={tmp_path}/bats", f"evaluate.similarity={tmp_path}/men.txt"]
    result = evaluate(config_of(f"evaluate.vectors={vectors}", *options))
    pairs, questions = result["question_files"]["one/i01.txt"], result["question_files"]["q.txt"]
    assert (pairs["format"], pairs["unknown_words"]) == ("pairs", 2)
    total = {"correct": 2, "questions": 2, "total": 6, "accuracy": 100.0}
    assert pairs["3cosadd"]["total"] == total
    assert (questions["format"], questions["unknown_words"]) == ("questions-words", 1)
    assert questions["3cosadd"]["sections"]["s"]["correct"] == 1
    men = {"spearman": pytest.approx(0, abs=1e-9), "pairs": 3, "total": 4, "unknown_words": 1}
    assert result["similarity_files"] == {"men.txt": men}
    said = capsys.readouterr().out
    assert "one/i01.txt                       100.00     50.00       2        4  (pairs; 2" in said
    assert said.endswith("(Spearman, 3 of 4 pairs)\n")
    assert files.read_json(tmp_path / "v.txt.evaluation.json")["similarity_files"] == {
        "men.txt": men
    }


def test_several_are_compared_in_one_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / "one.txt", tmp_path / "two.txt"]
    paths[0].write_text("4 2\nking 1 0\nqueen 1 1\nman 0 1\nwoman 0.1 2\n")
    paths[1].write_text("2 2\nking 1 0\nqueen 1 2\n")
    out = tmp_path / "all.json"
    compared = f"evaluate.compare=[{paths[0]},{paths[1]}]"
    result = evaluate(config_of(compared, f"evaluate.out={out}"))
    assert files.read_json(out) == result and list(result) == [str(path) for path in paths]
    lines = capsys.readouterr().out.splitlines()
    assert [sum(line.startswith(str(path)) for line in lines) for path in paths] == [2, 2]
    assert "3CosMul" in lines[2] and "19,542 / 19,544" in lines[-2]
    assert "19,544 / 19,544" in lines[-1]
    assert result[str(paths[0])] == evaluate(config_of(f"evaluate.vectors={paths[0]}"))
    with pytest.raises(UserError, match=r"evaluate.compare: .*/none not found: give run folders"):
        evaluate(config_of(f"evaluate.compare=[{tmp_path}/none]"))


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
