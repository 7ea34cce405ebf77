"""Phrases equal the reference implementation and gensim's, and never merge words in silence."""

import itertools
import logging
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import content
from gensim.models.phrases import FrozenPhrases, Phrases
from hypothesis import given, settings
from hypothesis import strategies as st

from w2v_inf.config import Config, CorpusConfig, Sample, TextFile
from w2v_inf.corpus import phrases
from w2v_inf.corpus.encode import encode
from w2v_inf.corpus.encoded_folder import Origin
from w2v_inf.corpus.load import EncodedCorpus, open_corpus
from w2v_inf.corpus.phrases import PhraseRule, encode_phrases
from w2v_inf.corpus.prepare import prepare, prepare_stage
from w2v_inf.errors import UserError
from w2v_inf.evaluation.analogy import load_questions
from w2v_inf.reference.encoding import encode_slowly
from w2v_inf.reference.phrases import join_slowly

ORIGIN = Origin("file", "some.txt", "00" * 32, "", "none")
TEXT = "the new york times\nin new york\n\nthe old new york new new york\na b c d\n" * 20


def words_of(corpus: EncodedCorpus) -> list[list[str]]:
    words = [corpus.vocab.words[i] for i in corpus.tokens]
    return [words[a:b] for a, b in itertools.pairwise(corpus.documents)]


def joined(text: str, folder: Path, rule: PhraseRule) -> EncodedCorpus:
    encode([text.encode()], folder / "plain", ORIGIN)
    encode_phrases(open_corpus(folder / "plain"), folder / "phrases", rule)
    return open_corpus(folder / "phrases")


def expected(text: str, rule: PhraseRule) -> list[list[str]]:
    documents = [line.split() for line in text.splitlines() if line.split()]
    for _ in range(rule.passes):
        documents = join_slowly(documents, rule.threshold, rule.min_count)
    return documents


# Repeated words, words that hold "_" and clash with names, empty documents, long ones.
odd_texts = st.lists(
    st.sampled_from([*"aaabbcd\n\n", "a_b", "_", "a_", "_b", "a b c", "a a a", "\u00e9"]),
    max_size=80,
).map(lambda pieces: "x y\n" + " ".join(pieces).replace(" \n ", "\n"))


@settings(max_examples=40, deadline=None)
@given(
    text=odd_texts,
    passes=st.sampled_from([1, 2]),
    # Thresholds that scores of small texts equal or just miss.
    threshold=st.sampled_from([1e-9, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 8.0]),
    min_count=st.integers(1, 3),
    block=st.integers(1, 9),
)
def test_equals_the_reference_whatever_the_blocks(
    tmp_path_factory, text, passes, threshold, min_count, block
):
    rule = PhraseRule(passes, threshold, min_count)
    documents = expected(text, rule)
    folder = tmp_path_factory.mktemp("phrases")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phrases, "_BLOCK", block)
        # A table of 8 slots holds 5 pairs: larger texts are counted part by part.
        patch.setattr(phrases, "_MIN_SLOTS", 8)
        patch.setattr(phrases, "_MAX_SLOTS", 8)
        if len({word for document in documents for word in document}) < 2:
            with pytest.raises(UserError, match="corpus.phrases=. joins all words into one"):
                joined(text, folder, rule)
            return
        corpus = joined(text, folder, rule)
    lines = "\n".join(" ".join(document) for document in documents)
    assert content(corpus) == encode_slowly(lines.encode())


def zipf_text(seed: int) -> str:
    """Words of falling frequency with collocations, 20 words a line."""
    rng = np.random.default_rng(seed)
    words = rng.zipf(1.3, 30_000) % 400
    follow = rng.random(len(words)) < 0.3
    words[1:][follow[1:]] = (words[:-1][follow[1:]] * 7 + 1) % 400
    return "\n".join(" ".join(f"w{word}" for word in line) for line in words.reshape(-1, 20))


@pytest.mark.parametrize("passes", [1, 2])
def test_a_full_table_and_small_blocks_change_nothing(tmp_path, monkeypatch, passes):
    text, rule = zipf_text(0), PhraseRule(passes, 5.0, 2)
    whole = content(joined(text, tmp_path / "whole", rule))
    monkeypatch.setattr(phrases, "_BLOCK", 777)
    monkeypatch.setattr(phrases, "_MIN_SLOTS", 256)
    monkeypatch.setattr(phrases, "_MAX_SLOTS", 256)
    assert content(joined(text, tmp_path / "parts", rule)) == whole
    lines = "\n".join(" ".join(document) for document in expected(text, rule))
    assert whole == encode_slowly(lines.encode())
    assert any("_" in word for word in whole[2])


def test_the_score_is_that_of_word2phrase(tmp_path):
    # "new york" 80 times; new 100, york 80, in all 360 words: (80 - 5) / (100 * 80) * 360 = 3.375
    counts = Counter(TEXT.split())
    assert (counts["new"], counts["york"], sum(counts.values())) == (100, 80, 360)
    score = (80 - 5) / (100 * 80) * 360
    below, at = (PhraseRule(1, threshold, 5) for threshold in (np.nextafter(score, 0), score))
    assert "new_york" in joined(TEXT, tmp_path / "below", below).vocab.words
    assert "new_york" not in joined(TEXT, tmp_path / "at", at).vocab.words


def test_no_phrase_crosses_documents_or_a_rare_word(tmp_path):
    text = "a\nb\n" * 40 + "".join(f"c rare{i} d\n" for i in range(40)) + "e f\n" * 40
    words = joined(text, tmp_path, PhraseRule(1, 1.0, 5)).vocab.words
    assert [word for word in words if "_" in word] == ["e_f"]


def test_a_pair_whose_name_is_a_word_is_not_joined_and_is_named(tmp_path, caplog):
    text = "new york\nnew_york city\nold town\n" * 20
    with caplog.at_level(logging.WARNING):
        corpus = joined(text, tmp_path, PhraseRule(1, 1.0, 5))
    assert corpus.vocab.words == ["new", "new_york_city", "old_town", "york"]
    assert "1 distinct pairs not joined" in caplog.text and "(new_york)" in caplog.text


def test_two_pairs_of_one_name_stay_two(tmp_path, caplog):
    corpus = joined("a_b c\n" * 30 + "a b_c\n" * 20, tmp_path, PhraseRule(1, 1.0, 5))
    assert dict(zip(corpus.vocab.words, corpus.vocab.counts.tolist(), strict=True)) == {
        "a_b_c": 30,
        "a": 20,
        "b_c": 20,
    }
    assert "(a_b_c)" in caplog.text


def gensim_words(documents: list[list[str]], threshold: float) -> tuple[Phrases, list[list[str]]]:
    """One pass of gensim at our threshold, rescaled: it has types in place of words."""
    model = Phrases(documents, min_count=5, threshold=1e-9)
    num_words = sum(map(len, documents))
    model.threshold = threshold * len(model.vocab) / num_words
    return model, [list(model[document]) for document in documents]


def test_equals_gensim_on_zipf_text(tmp_path):
    text = zipf_text(1)
    _, documents = gensim_words([line.split() for line in text.splitlines()], 5.0)
    assert words_of(joined(text, tmp_path, PhraseRule(1, 5.0, 5))) == documents


@pytest.mark.slow
def test_equals_gensim_on_real_text(tmp_path):
    documents = words_of(open_corpus(prepare(Sample(), tmp_path)))
    for passes in (1, 2):
        model, documents = gensim_words(documents, 10.0)
        corpus = open_corpus(prepare(Sample(phrases=passes, phrase_threshold=10.0), tmp_path))
        assert words_of(corpus) == documents
        if passes == 1:
            names = {word for word in corpus.vocab.words if "_" in word}
            # gensim also lists pairs whose every place a phrase before them takes.
            assert len(names) > 1000 and names <= FrozenPhrases(model).phrasegrams.keys()


def prepared(tmp_path: Path, **options: Any) -> Path:
    (tmp_path / "x.txt").write_text(TEXT)
    return prepare(TextFile(path=str(tmp_path / "x.txt"), **options), tmp_path / "data")


def test_the_options_of_phrases_make_another_corpus(tmp_path):
    plain = prepared(tmp_path)
    one = prepared(tmp_path, phrases=1)
    others = [
        prepared(tmp_path, phrases=2),
        prepared(tmp_path, phrases=1, phrase_threshold=2.0),
        prepared(tmp_path, phrases=1, phrase_min_count=4),
    ]
    assert len({plain, one, *others}) == 5 == len(os.listdir(tmp_path / "data"))
    assert one.name.startswith("file-phrases1-") and others[0].name.startswith("file-phrases2-")
    assert prepared(tmp_path, phrases=1, min_count=1, max_vocab=3) == one


def test_the_stage_prints_the_phrases(tmp_path, capsys):
    (tmp_path / "x.txt").write_text(TEXT)
    corpus = TextFile(path=str(tmp_path / "x.txt"), phrases=1, phrase_threshold=3.0, max_vocab=4)
    prepare_stage(Config(corpus=corpus, data_dir=str(tmp_path / "data")))
    printed = capsys.readouterr().out
    assert "(1 pass, threshold 3, min_count 5)" in printed
    assert "phrases               4 distinct, 140 tokens" in printed
    assert "frequent phrases      new_york 80, a_b 20, c_d 20, " in printed
    assert "vocabulary            4 (" in printed  # max_vocab counts phrases


def test_questions_find_phrases(tmp_path):
    (tmp_path / "questions.txt").write_text(": cities\nNew_York times Old_the new\n")
    text = TEXT + "old the\n" * 20
    vocab = joined(text, tmp_path, PhraseRule(1, 2.0, 5)).vocab
    ids = load_questions(vocab, tmp_path / "questions.txt").ids
    words = [[vocab.words[i] for i in question] for question in ids.tolist()]
    assert words == [["new_york", "times", "old_the", "new"]]


def test_a_failure_leaves_the_plain_corpus_only(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(phrases, "finish", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepared(tmp_path, phrases=2)
    assert os.listdir(tmp_path / "data") == [prepared(tmp_path).name]


def test_damaged_tokens_are_refused(tmp_path):
    tokens = prepared(tmp_path) / "tokens.bin"
    tokens.write_bytes(b"\xff" * len(tokens.read_bytes()))
    with pytest.raises(UserError, match="tokens.bin must have sha256"):
        prepared(tmp_path, phrases=1)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"phrases": 3}, "corpus.phrases must be 0, 1 or 2, got 3"),
        ({"phrases": 1, "phrase_threshold": 0.0}, "corpus.phrase_threshold must be above 0, got 0"),
        ({"phrases": 1, "phrase_threshold": float("nan")}, "must be a finite number, got nan"),
        ({"phrases": 1, "phrase_min_count": 0}, "phrase_min_count must be at least 1, got 0"),
        ({"phrase_threshold": 5.0}, "phrase_threshold must be 100.0 with corpus.phrases=0"),
        ({"phrase_min_count": 2}, "phrase_min_count must be 5 with corpus.phrases=0"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(UserError, match=message):
        CorpusConfig(name="sample", **options)
