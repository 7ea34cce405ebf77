import itertools
import os
import sys
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from w2v_inf.config import Cleaning, Wikipedia
from w2v_inf.corpus.download import CorpusUnavailable
from w2v_inf.corpus.load import open_corpus
from w2v_inf.corpus.prepare import prepare
from w2v_inf.corpus.wikipedia import clean_text8, clean_unicode
from w2v_inf.errors import UserError

TEXTS = ["Café in 1907:\nthe End", "über ALLES — the\u2028end", None, "", "Третий 3rd the"]
TABLE = pa.table({"id": ["1", "2", "3", "4", "5"], "title": list("abcde"), "text": TEXTS})
TEXT8_LINES = ["cafe in one nine zero seven the end", "uber alles the end", "three rd the"]
UNICODE_LINES = ["café in 1907 the end", "über alles the end", "третий 3rd the"]


def write_parquet(path: Path, table: pa.Table = TABLE) -> Path:
    pq.write_table(table, path, row_group_size=2)
    return path


def write_arrow_file(path: Path) -> Path:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=2)
    return path


def write_arrow_stream(path: Path) -> Path:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=2)
    return path


WRITERS = {"a.parquet": write_parquet, "b.arrow": write_arrow_file, "c.arrow": write_arrow_stream}


def lines(corpus: Wikipedia, data_dir: Path) -> list[str]:
    encoded = open_corpus(prepare(corpus, data_dir))
    words = [encoded.vocab.words[i] for i in encoded.tokens]
    return [" ".join(words[a:b]) for a, b in itertools.pairwise(encoded.documents)]


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize(
    "cleaning, expected", [(Cleaning.text8, TEXT8_LINES), (Cleaning.unicode, UNICODE_LINES)]
)
def test_local_files_give_one_document_an_article(tmp_path, name, cleaning, expected):
    path = WRITERS[name](tmp_path / name)
    assert lines(Wikipedia(path=str(path), cleaning=cleaning), tmp_path / "data") == expected


def test_what_datasets_saves_can_be_read(tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.Dataset(TABLE).save_to_disk(tmp_path / "saved")
    assert lines(Wikipedia(path=str(tmp_path / "saved")), tmp_path / "data") == TEXT8_LINES


def one_line(path: Path, data_dir: Path, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        prepare(Wikipedia(path=str(path)), data_dir)
    assert "\n" not in str(caught.value)


def test_of_a_saved_data_set_only_its_own_files_are_read(tmp_path):
    datasets = pytest.importorskip("datasets")
    saved = tmp_path / "saved"
    datasets.Dataset(TABLE).save_to_disk(saved, num_shards=2)
    rows = datasets.load_from_disk(str(saved)).map(lambda row: {"text": f"{row['text']} mapped"})
    assert len(rows) == 5 and list(saved.glob("cache-*.arrow"))
    assert lines(Wikipedia(path=str(saved)), tmp_path / "data") == TEXT8_LINES
    (saved / "data-00001-of-00002.arrow").unlink()
    one_line(saved, tmp_path / "data", "state.json lists data-00001-of-00002.arrow, which is mis")
    (saved / "state.json").write_text("{}")
    one_line(saved, tmp_path / "data", "state.json is damaged")


def test_of_several_splits_one_must_be_named(tmp_path):
    datasets = pytest.importorskip("datasets")
    both = datasets.DatasetDict(train=datasets.Dataset(TABLE), test=datasets.Dataset(TABLE))
    both.save_to_disk(tmp_path / "saved")
    one_line(tmp_path / "saved", tmp_path / "data", "has the splits test, train: give the folder")
    assert lines(Wikipedia(path=f"{tmp_path}/saved/train"), tmp_path / "data") == TEXT8_LINES


@pytest.mark.parametrize(
    "names, message",
    [
        (["wiki-train-00000-of-00002.arrow", "wiki-test.arrow"], "has the splits test, train"),
        (["train-00000-of-00001.parquet", "validation-00000-of-00001.parquet"], "splits train, v"),
        (["a.parquet", "b.arrow"], "has both .parquet and .arrow files"),
        (["wiki-train.arrow", "cache-0123456789abcdef.arrow"], "also has cache-0123456789abcdef"),
    ],
)
def test_a_folder_must_hold_one_text(tmp_path, names, message):
    (tmp_path / "in").mkdir()
    for name in names:
        WRITERS["b.arrow" if name.endswith(".arrow") else "a.parquet"](tmp_path / "in" / name)
    one_line(tmp_path / "in", tmp_path / "data", message)


def test_a_folder_is_read_by_name_and_max_documents_cuts_it(tmp_path):
    (tmp_path / "in").mkdir()
    write_parquet(tmp_path / "in" / "2.parquet")
    write_parquet(tmp_path / "in" / "1.parquet", pa.table({"text": ["first words"]}))
    (tmp_path / "in" / "README.md").write_text("not this")
    (tmp_path / "in" / "._1.parquet").write_text("nor this")
    path = str(tmp_path / "in")
    assert lines(Wikipedia(path=path), tmp_path / "data") == ["first words", *TEXT8_LINES]
    assert lines(Wikipedia(path=path, max_documents=2), tmp_path / "data") == [
        "first words",
        TEXT8_LINES[0],
    ]
    assert len(os.listdir(tmp_path / "data")) == 2


def test_cleaning_folds_accents_and_cuts_at_everything_else():
    assert clean_text8("Ångström's ﬁx²—a").split() == b"angstrom s fix two a".split()
    assert clean_text8("a\u4e2db \udc80c").split() == b"a b c".split()
    assert clean_unicode("Cafe\u0301's x_1—ΑΘΗΝΑ").decode().split() == ["café", "s", "x_1", "αθηνα"]
    # What is a blank to the encoder is none of the words.
    assert clean_unicode("a\x1cb\x85c\u3000d").split() == [b"a", b"b", b"c", b"d"]


WHOLE_WORDS = {
    "arabic": "كِتَابٌ ذَهَبَ",
    "hebrew": "שָׁלוֹם עֲלֵיכֶם",
    "devanagari": "नमस्ते दुनिया",
    "persian": "می\u200cخواهم بود",
    "thai": "น้ำ ที่",
    "decomposed": unicodedata.normalize("NFC", "x\u0323\u0308 y"),
}


@pytest.mark.parametrize("script", WHOLE_WORDS)
def test_unicode_words_keep_their_marks(script):
    text = WHOLE_WORDS[script]
    words = unicodedata.normalize("NFC", text).split()
    assert clean_unicode(f"«{text}», ({text})!").decode().split() == words * 2


def test_capital_i_with_a_dot_is_lower_cased_to_i():
    assert clean_unicode("İlk ilk I\u0307LK").split() == [b"ilk"] * 3


def test_marks_and_joiners_alone_are_no_words():
    text = "\u0301 a\u200c 👨\u200d👩 ❤\ufe0f b\u200d\u200d, \u200cc"
    assert clean_unicode(text).split() == [b"a", b"b", b"c"]


RUSSIAN = pa.table({"text": ["Третий the день", "и one ночь"] * 9})


def test_text8_refuses_a_text_that_is_mostly_not_latin(tmp_path, monkeypatch):
    path = write_parquet(tmp_path / "x.parquet", RUSSIAN)
    message = "corpus.cleaning=text8 keeps .* would drop 71 % .*take corpus.cleaning=unicode"
    one_line(path, tmp_path / "data", message)
    monkeypatch.setattr("w2v_inf.corpus.wikipedia._ENOUGH_LETTERS", 9)
    one_line(path, tmp_path / "data", "text8 keeps .* would drop 77 %")  # after the first article
    unicode = lines(Wikipedia(path=str(path), cleaning=Cleaning.unicode), tmp_path / "data")
    assert unicode[:2] == ["третий the день", "и one ночь"]


def test_text8_says_how_much_of_a_mixed_text_it_drops(tmp_path, caplog):
    path = write_parquet(tmp_path / "x.parquet", pa.table({"text": ["the third день", "one two"]}))
    assert lines(Wikipedia(path=str(path)), tmp_path / "data") == ["the third", "one two"]
    assert "text8 dropped 22 % of the letters of this text, which are not Latin" in caplog.text
    caplog.clear()
    latin = write_parquet(tmp_path / "y.parquet", pa.table({"text": ["Ångström café", "naïve"]}))
    lines(Wikipedia(path=str(latin)), tmp_path / "data")
    assert not caplog.records


@pytest.mark.parametrize("name", WRITERS)
def test_a_truncated_file_is_a_user_error_and_leaves_nothing(tmp_path, name):
    path = WRITERS[name](tmp_path / name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(UserError, match=f"{name} is damaged or cut short") as caught:
        prepare(Wikipedia(path=str(path)), tmp_path / "data")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data").exists() or os.listdir(tmp_path / "data") == []


@pytest.mark.parametrize(
    "table, message",
    [
        (pa.table({"body": ["a b"]}), "must have a column 'text', has body"),
        (pa.table({"text": [1, 2]}), "column 'text' must hold strings, holds int64"),
    ],
)
def test_a_file_without_text_is_a_user_error(tmp_path, table, message):
    path = write_parquet(tmp_path / "x.parquet", table)
    with pytest.raises(UserError, match=message):
        prepare(Wikipedia(path=str(path)), tmp_path / "data")


@pytest.mark.parametrize("name", ["missing.parquet", "empty", "x.csv"])
def test_a_path_without_files_is_a_user_error(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.csv").write_text("text\na b\n")
    with pytest.raises(
        UserError, match="corpus.path must be a .parquet or .arrow file, or a folder of them"
    ):
        prepare(Wikipedia(path=str(tmp_path / name)), tmp_path / "data")


class FakeStream(list):
    def select_columns(self, name):
        assert name == "text"
        return self


def fake_hub(monkeypatch, answer) -> list[tuple]:
    calls = []

    def load_dataset(*args, **options):
        calls.append((args, options))
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    return calls


def test_the_hub_is_streamed_once_and_only_as_far_as_needed(tmp_path, monkeypatch):
    calls = fake_hub(
        monkeypatch, FakeStream({"text": text} for text in ("One two.", "Three", "Never read"))
    )
    corpus = Wikipedia(snapshot="20220301.simple", max_documents=2)
    for _ in range(2):
        assert lines(corpus, tmp_path) == ["one two", "three"]
    assert calls == [
        (("wikimedia/wikipedia", "20220301.simple"), {"split": "train", "streaming": True})
    ]


def test_an_unreachable_hub_is_one_line(tmp_path, monkeypatch):
    fake_hub(monkeypatch, ConnectionError("Couldn't reach\nthe hub"))
    with pytest.raises(
        CorpusUnavailable, match="https://huggingface.co/datasets/wikimedia/wikipedia.*corpus.path"
    ) as caught:
        prepare(Wikipedia(), tmp_path)
    assert "\n" not in str(caught.value) and os.listdir(tmp_path) == []


def test_an_unknown_snapshot_is_not_taken_for_an_unreachable_hub(tmp_path, monkeypatch):
    fake_hub(monkeypatch, ValueError("BuilderConfig 'x' not found. Available: ['20231101.en']"))
    with pytest.raises(
        UserError, match="corpus.snapshot=x must name a snapshot.*20231101.en"
    ) as caught:
        prepare(Wikipedia(snapshot="x"), tmp_path)
    assert not isinstance(caught.value, CorpusUnavailable)
