"""Export: files and folders of vectors, and analogies through gensim and back."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from composed import config_of
from gensim.models import KeyedVectors
from local_hub import local_hub
from small_runs import small_config

from w2v_inf import api
from w2v_inf.config import VectorFormat
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.errors import UserError
from w2v_inf.evaluation.analogy import analogy_accuracy, load_questions
from w2v_inf.evaluation.evaluate import evaluate
from w2v_inf.export import stage
from w2v_inf.export.stage import export
from w2v_inf.files import read_json
from w2v_inf.models.linear import LinearModel
from w2v_inf.reporting.plot import plot
from w2v_inf.training.train import train
from w2v_inf.word2vec_format import read_vectors, write_vectors

WORDS = ["a", "größe", "日本", "x-1", "0", "e"]
VOCAB = Vocabulary(WORDS, np.array([9, 8, 7, 6, 5, 4]))


def table(rows: int = 6, columns: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finite network and the limit in two dtypes, on the planted corpus."""
    root = tmp_path_factory.mktemp("runs")
    common = [
        "corpus=planted",
        "corpus.max_vocab=900",
        "train.epochs=2",
        "train.lr=0.2",
        "num_threads=1",
        f"data_dir={root}/data",
    ]
    for name, *model in (
        ["finite", "model.width=24"],
        ["limit", "model=mup_limit"],
        ["half", "model=mup_limit", "model.dtype=bfloat16"],
    ):
        train(config_of(*common, *model, f"run_dir={root}/{name}"))
    return root


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of width 8 and the limit, on 30 words."""
    root = tmp_path_factory.mktemp("small")
    for name, *model in (["finite", "model.width=8"], ["limit", "model=mup_limit"]):
        train(small_config(root, *model, "train.epochs=1", run=name))
    return root


@pytest.mark.parametrize("format", ["hub", "projector"])
@pytest.mark.parametrize("run", ["finite", "limit"])
def test_a_folder_has_the_cosines_and_facts_of_its_run(
    run: str, format: str, small: Path, tmp_path: Path
) -> None:
    options = [f"run_dir={small}/{run}", f"export.format={format}"]
    path = export(config_of(*options, f"export.out={tmp_path}/v", "export.method=own"))
    trained, loaded = api.load(small / run), api.load(path)
    assert loaded.vocab.words == trained.vocab.words
    assert loaded.vocab.counts.tolist() == trained.vocab.counts.tolist()
    words = loaded.vocab.words
    np.testing.assert_array_equal(loaded.gram(words), trained.gram(words))
    assert loaded.most_similar("king") == trained.most_similar("king")
    facts = read_json(path / "config.json")
    assert (facts["format"], facts["method"], facts["run"]) == (format, "own", run)
    assert facts["gram_error"] == 0 and facts["vocab_size"] == len(words)


def test_a_reduced_folder_says_what_it_lost(small: Path, tmp_path: Path) -> None:
    options = [f"run_dir={small}/limit", f"export.out={tmp_path}/v", "export.format=hub"]
    facts = read_json(export(config_of(*options, "export.dimension=3")) / "config.json")
    loaded, trained = api.load(tmp_path / "v"), api.load(small / "limit")
    exact = trained.gram(trained.vocab.words)
    error = np.linalg.norm(loaded.gram(trained.vocab.words) - exact) / np.linalg.norm(exact)
    assert facts["method"] == "fit" and facts["loses"].startswith("part of the direction")
    assert facts["gram_error"] == pytest.approx(error, rel=1e-4) and error > 0.01
    card = (tmp_path / "v" / "README.md").read_text()
    assert f"error of inner products {error:.4f}" in card


def test_a_folder_has_a_default_name_and_is_evaluated_and_drawn(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = export(config_of(f"run_dir={small}/finite", "export.format=hub"))
    assert path == small / "finite" / "vectors-own-8-hub"
    monkeypatch.chdir(path)
    ours = evaluate(config_of("evaluate.vectors=."))
    theirs = read_json(small / "finite" / "summary.json")["evaluation"]
    assert ours["analogy"] == theirs["analogy"] and ours["neighbours"] == theirs["neighbours"]
    assert (path.parent / f"{path.name}.evaluation.json").is_file()
    paths = plot(config_of("evaluate.vectors=."))
    assert [p.name for p in paths] == [f"pca-{path.name}{end}" for end in (".png", ".svg")]
    assert all(p.parent == path.parent for p in paths)


def test_what_is_in_the_way_is_refused_before_the_work(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    monkeypatch.setattr(stage, "reduce", lambda *arguments: pytest.fail("worked in vain"))
    options = [f"run_dir={small}/limit", "export.format=hub"]
    with pytest.raises(UserError, match="export.out=.*mine holds no earlier export"):
        export(config_of(*options, f"export.out={tmp_path}/mine"))
    with pytest.raises(UserError, match="export.push must be OWNER/NAME"):
        export(config_of(*options, f"export.out={tmp_path}/v", "export.push=words"))
    with pytest.raises(UserError, match="export.out=.*limit holds no earlier export"):
        export(config_of(*options, f"export.out={small}/limit"))


def test_a_link_to_an_earlier_export_stays_a_link(small: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("v")
    options = [f"run_dir={small}/finite", "export.format=projector"]
    for _ in range(2):
        export(config_of(*options, f"export.out={tmp_path}/link"))
    assert (tmp_path / "link").is_symlink() and len(api.load(tmp_path / "v").vocab) == 30


def test_a_failed_upload_leaves_the_folder(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [f"run_dir={small}/finite", "export.format=hub", f"export.out={tmp_path}/v"]
    with local_hub(monkeypatch, f"{tmp_path}/cache") as hub:
        hub.refusals = {"/create": 403}
        with pytest.raises(UserError, match="export.push=me/words failed"):
            export(config_of(*options, "export.push=me/words"))
        assert len(api.load(tmp_path / "v").vocab) == 30
        hub.refusals = {}
        export(config_of(*options, "export.push=me/words"))
        assert set(hub.files["me/words"]) == {path.name for path in (tmp_path / "v").iterdir()}


@pytest.mark.slow  # trains whole runs
@pytest.mark.parametrize("method", ["auto", "principal", "sample"])
@pytest.mark.parametrize("format", ["text", "binary"])
@pytest.mark.parametrize("run", ["finite", "limit", "half"])
def test_analogies_are_the_same_through_gensim_and_back(
    run: str, format: str, method: str, runs: Path, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "ours"
    options = [
        f"run_dir={runs}/{run}",
        f"export.format={format}",
        f"export.method={method}",
        f"export.out={out}",
    ]
    path = export(config_of(*options, "export.dimension=20"))
    assert "cosine error" in capsys.readouterr().out
    keyed = KeyedVectors.load_word2vec_format(str(path), binary=format == "binary")
    keyed.save_word2vec_format(str(tmp_path / "theirs"), binary=format == "binary")
    ours, theirs = (
        evaluate(config_of(f"evaluate.vectors={file}")) for file in (path, tmp_path / "theirs")
    )
    errors = read_json(tmp_path / "ours.json")
    totals = [evaluation["analogy"]["3cosadd"]["total"] for evaluation in (ours, theirs)]
    assert totals[0] == totals[1] == errors["analogy"]
    assert errors["analogy"]["questions"] > 20 and errors["dimension"] == 20
    assert read_json(tmp_path / "theirs.evaluation.json") == theirs


@pytest.mark.slow  # trains whole runs
def test_gensims_own_evaluation_agrees(runs: Path, tmp_path: Path) -> None:
    path = export(
        config_of(f"run_dir={runs}/finite", f"export.out={tmp_path}/v.kv", "export.format=gensim")
    )
    keyed = KeyedVectors.load(str(path))
    questions = load_questions(Vocabulary(keyed.index_to_key, np.arange(len(keyed), 0, -1)))
    table = torch.from_numpy(keyed.vectors)
    ours = analogy_accuracy(LinearModel(table, table), questions)["3cosadd"]["total"]
    hits = 0
    for a, b, c, d in questions.ids.tolist():
        names = [keyed.index_to_key[i] for i in (a, b, c)]
        hits += (
            keyed.most_similar(positive=names[1:], negative=names[:1], topn=1)[0][0]
            == keyed.index_to_key[d]
        )
    assert ours["correct"] == hits and 0 < hits < len(questions)


@pytest.mark.slow  # trains whole runs
def test_an_export_says_what_begins_and_what_it_overwrites(
    runs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = [f"run_dir={runs}/limit", f"export.out={tmp_path}/v.txt", "export.dimension=3"]
    caplog.set_level(logging.INFO)
    export(config_of(*options))
    assert caplog.messages[0] == "reducing 900 words to 3 columns (fit)"
    caplog.clear()
    export(config_of(*options))
    assert caplog.messages[0] == f"{tmp_path}/v.txt exists and will be overwritten"
    assert set(read_json(tmp_path / "v.txt.json")["cosines"]) == {
        "error",
        "neighbour_overlap",
        "words",
    }


@pytest.mark.slow  # trains whole runs
def test_a_file_of_vectors_is_drawn(runs: Path, tmp_path: Path) -> None:
    path = export(config_of(f"run_dir={runs}/finite", f"export.out={tmp_path}/v.txt"))
    paths = plot(config_of(f"evaluate.vectors={path}"))
    assert [p.name for p in paths] == ["pca-v.png", "pca-v.svg"] and all(
        p.parent == tmp_path for p in paths
    )
    write_vectors(tmp_path / "few.txt", VOCAB, table(), VectorFormat.text)
    with pytest.raises(UserError, match="few.txt has 0 of the US cities and states"):
        plot(config_of(f"evaluate.vectors={tmp_path}/few.txt"))


@pytest.mark.slow  # trains whole runs
def test_both_dtypes_of_the_limit_export_alike(runs: Path, tmp_path: Path) -> None:
    vectors = []
    for run in ("limit", "half"):
        config = config_of(
            f"run_dir={runs}/{run}", f"export.out={tmp_path}/{run}", "export.method=own"
        )
        vectors.append(read_vectors(export(config))[1])
    assert vectors[0].shape == vectors[1].shape == (900, 900)
    # A row is rounded once per batch that has its word, and distant positions share few words.
    assert float(np.linalg.norm(vectors[0] - vectors[1]) / np.linalg.norm(vectors[0])) < 0.1
