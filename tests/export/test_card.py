"""The model card: it says what is known, its code runs as it stands, the hub's library reads it."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from composed import config_of
from local_hub import local_hub
from small_runs import small_config

from w2v_inf import api
from w2v_inf.config import PROJECT_ROOT, Embedding, VectorMethod
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.export.card import render_card
from w2v_inf.export.facts import gather_facts
from w2v_inf.export.stage import export
from w2v_inf.files import read_json
from w2v_inf.training.train import train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network, finite, whose vocabulary has some analogy questions."""
    root = tmp_path_factory.mktemp("card")
    return train(small_config(root, "model.width=8", "train.epochs=1", run="run"))


@pytest.fixture(scope="module")
def facts(run: Path) -> dict[str, Any]:
    out = export(config_of(f"run_dir={run}", f"export.out={run.parent}/v", "export.format=hub"))
    config = read_json(out / "config.json")
    errors = ("gram_error", "cosines", "analogy", "analogy_of_model", "approximation")
    return gather_facts(
        run, VectorMethod.own, Embedding.input, {name: config[name] for name in errors}
    )


def card(facts: dict[str, Any], word: str = "king", repository: str = "", **options: Any) -> str:
    facts = facts | {"training": facts["training"] | options}
    return render_card(facts, Vocabulary([word], np.array([1])), 8, "1.2.3", repository)


def blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)


@pytest.mark.parametrize("push", ["", "me/words"])
def test_the_code_of_a_card_runs_as_it_stands(
    push: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """In the exported folder; after an upload, far from it."""
    options = [f"run_dir={run}", f"export.out={tmp_path}/v", "export.format=hub"]
    with local_hub(monkeypatch, f"{tmp_path}/cache"):
        folder = export(config_of(*options, f"export.push={push}"))
        text = (folder / "README.md").read_text(encoding="utf-8")
        found = blocks(text)
        assert len(found) == 4
        if push:
            shutil.rmtree(folder)
        monkeypatch.chdir(tmp_path if push else folder)
        capsys.readouterr()
        names: dict[str, Any] = {}
        for block in found:
            exec(compile(block, "README.md", "exec"), names)
    trained = api.load(run)
    word = "king"
    best, cosine = trained.most_similar(word, 1)[0]
    ours, numbers, theirs = re.split(r"\n(?=\[)", capsys.readouterr().out.strip())
    for printed in (ours, theirs):
        assert printed.startswith(f"[('{best}', ") and f"{cosine:.4f}"[:-1] in printed
    assert f"{trained.vector(word)[0]:.4g}"[:5] in numbers
    keyed = names["keyed"]
    assert keyed.index_to_key == trained.vocab.words
    np.testing.assert_array_equal(keyed["king"], trained.vector("king"))
    assert [keyed.get_vecattr(w, "count") for w in keyed.index_to_key] == [
        *trained.vocab.counts.tolist()
    ]


def test_the_hubs_library_reads_what_is_known(facts: dict[str, Any]) -> None:
    from huggingface_hub import ModelCard

    analogy = {"correct": 3, "questions": 8, "total": 19544, "accuracy": 37.5}
    data = ModelCard(card(facts | {"analogy": analogy}, repository="me/words")).data
    assert (data.license, data.library_name, data.language) == ("unknown", "w2v_inf", None)
    assert data.tags == ["word2vec", "word-embeddings", "cbow"] and data.metrics == ["accuracy"]
    [result] = data.eval_results
    assert (result.metric_type, result.metric_value) == ("accuracy", 37.5)
    assert "8 of 19,544" in result.dataset_name and data.model_name == "words"
    wikipedia = facts | {"licence_id": "cc-by-sa-4.0", "language": "en", "dataset": "wikimedia/w"}
    data = ModelCard(card(wikipedia)).data
    assert (data.license, data.language, data.datasets) == ("cc-by-sa-4.0", "en", ["wikimedia/w"])
    none = {"correct": 0, "questions": 0, "total": 19544, "accuracy": None}
    text = card(facts | {"analogy": none, "analogy_of_model": none})
    assert ModelCard(text).data.eval_results is None and "No question of" in text


@pytest.mark.parametrize(
    ("options", "sentences"),
    [
        ({}, ["a network of width 8, parametrization mup.", "divided among the context words"]),
        ({"train.context_gradient": "whole"}, ["each context word gets the whole gradient"]),
        ({"stream.architecture": "skipgram"}, ["skip-gram; a context of one word", "(skip-gram)"]),
        (
            {"model.name": "mup_limit", "model.engine": "dense", "model.dtype": "bfloat16"},
            ["infinite-width muP limit, by the dense engine (bfloat16), which is exact."],
        ),
        (
            {"model.name": "mup_limit", "model.engine": "lowrank"},
            ["approximated by the low-rank engine with rank 64."],
        ),
        ({"model.name": "ntk_limit"}, ["infinite-width NTK limit; these are coefficients"]),
    ],
)
def test_a_card_says_which_model_and_rule(
    options: dict[str, Any], sentences: list[str], facts: dict[str, Any]
) -> None:
    text = card(facts | {"approximation": {"rank": 64}}, **options)
    assert all(sentence in text for sentence in sentences), text
    assert "\n\n\n" not in text and "{{" not in text.partition("```bibtex")[0]


def test_a_card_says_what_is_lost_and_how_it_was_measured(facts: dict[str, Any]) -> None:
    own = card(facts)
    assert "nothing: these are all columns" in own and "Do not report" not in own
    protocol = "**Protocol:** 3CosAdd. The answer is the word of largest cos(b) - cos(a) + cos(c)"
    assert protocol in own and "Licence of the text:** not stated." in own
    fitted = facts | {"method": "fit", "loses": "part of it", "gram_error": 0.25}
    text = card(fitted, **{"model.name": "mup_limit", "model.engine": "dense", "model.dtype": "x"})
    assert "by `export.method=fit`" in text and "beside the model:** part of it." in text
    assert "error of inner products 0.2500" in text
    assert "Do not report the accuracy of these vectors as that of the limit." in text
    assert "| the model, same embedding |" in text


def test_hostile_names_stay_inside_their_code(facts: dict[str, Any]) -> None:
    from huggingface_hub import ModelCard

    name = 'a`b\n---\nlicense: mit\n# "x" {{ 1 }}'
    text = card(facts | {"corpus": name, "run": name}, word="it's \"'\n```\n\\")
    assert ModelCard(text).data.license == "unknown"
    assert """`a'b --- license: mit # "x" {{ 1 }}`""" in text
    for block in blocks(text):
        compile(block, "README.md", "exec")
    assert len(blocks(text)) == 4


def test_the_citations_are_those_of_the_repository(facts: dict[str, Any]) -> None:
    cff = yaml.safe_load((PROJECT_ROOT / "CITATION.cff").read_text())
    [paper] = cff["references"]
    text = card(facts)
    assert f"title = {{{cff['title']}}}" in text
    assert f"author = {{{{{cff['authors'][0]['name']}}}}}" in text and "version = {1.2.3}" in text
    assert f"title = {{{paper['title']}}}" in text and "arXiv:2011.14522" in text
    assert all(author["family-names"] in text for author in paper["authors"])
