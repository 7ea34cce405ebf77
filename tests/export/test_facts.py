"""What is known of a text, without guesses, and that no path of this machine travels."""

import json
from pathlib import Path
from typing import Any

import pytest
from small_runs import small_config

from w2v_inf.config import Embedding, Planted, Sample, Text8, TextFile, VectorMethod, Wikipedia
from w2v_inf.errors import UserError
from w2v_inf.export.facts import LICENCES, describe_text, gather_facts
from w2v_inf.export.reduce import LOSES
from w2v_inf.files import read_json
from w2v_inf.training.train import train


@pytest.mark.parametrize(
    ("corpus", "known"),
    [
        (Text8(), ("cc-by-sa-3.0", "en", None)),
        (Sample(), ("cc-by-sa-3.0", "en", None)),
        (Planted(), ("other", "en", None)),
        (Wikipedia(), ("cc-by-sa-4.0", "en", "wikimedia/wikipedia")),
        (Wikipedia(snapshot="20220301.simple"), ("cc-by-sa-3.0", "simple", "wikimedia/wikipedia")),
        (Wikipedia(path="my.parquet"), ("cc", None, None)),
        (TextFile(path="my.txt"), ("unknown", None, None)),
    ],
)
def test_licence_language_and_data_set_of_each_text(corpus: Any, known: tuple) -> None:
    assert describe_text(corpus) == known and known[0] in LICENCES


def test_every_method_says_what_it_loses() -> None:
    assert set(LOSES) == set(VectorMethod) - {VectorMethod.auto}


def test_facts_are_those_of_the_run_without_paths(tmp_path: Path) -> None:
    run = train(small_config(tmp_path, "model.width=8", "train.epochs=1", run="run"))
    errors = {"gram_error": 0.5}
    facts = gather_facts(run, VectorMethod.fit, Embedding.sum, errors)
    assert (facts["method"], facts["embedding"], facts["run"]) == ("fit", "sum", "run")
    assert facts["loses"] == LOSES[VectorMethod.fit] and facts["gram_error"] == 0.5
    assert facts["licence"] == "not stated" and facts["corpus"] == "toy"
    summary = read_json(run / "summary.json")
    totals = facts["evaluation"]["analogy"]
    assert totals["total"] == summary["evaluation"]["analogy"]["3cosadd"]["total"]
    assert facts["training"]["model.width"] == 8 and facts["training"]["train.epochs"] == 1
    assert str(tmp_path) not in json.dumps(facts)
    (run / "environment.json").unlink()
    assert gather_facts(run, VectorMethod.fit, Embedding.sum, errors)["commit"] is None


def test_a_damaged_summary_is_one_line(tmp_path: Path) -> None:
    run = train(small_config(tmp_path, "model.width=8", "train.epochs=1", run="run"))
    summary = read_json(run / "summary.json")
    for evaluation in ({}, {"analogy": None}, {"analogy": {"3cosadd": {"total": 1}}}):
        (run / "summary.json").write_text(json.dumps(summary | {"evaluation": evaluation}))
        with pytest.raises(UserError, match="summary.json is damaged .evaluation."):
            gather_facts(run, VectorMethod.fit, Embedding.sum, {})
