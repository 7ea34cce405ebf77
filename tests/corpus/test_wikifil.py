import pytest

from w2v_inf.corpus import wikifil as module
from w2v_inf.corpus.wikifil import clean_article, wikifil
from w2v_inf.errors import UserError


def page(text: str) -> str:
    head = "<title>No title</title>\n<comment>nor comment</comment>"
    return f'<page>\n{head}<text xml:space="preserve">{text}</text>\n</page>\n'


def words(markup: str) -> str:
    return b" ".join(clean_article(markup.encode()).split()).decode()


@pytest.mark.parametrize(
    "markup, expected",
    [
        ("'''Anarchism''' is a Political-Theory.", "anarchism is a political theory"),
        ("in 1907, 20th", "in one nine zero seven two zero th"),
        ("caf\u00e9 na\u00efve", "caf na ve"),
        ("[[a]] and [[United States|American]]s", "a and americans"),
        ("see [http://x.org/a?b=1 the site] or [http://x.org]", "see the site or"),
        ("[[Image:Foo bar.jpg|thumb|right|200px|A [[red]] fox]]", "a red fox"),
        ("[[image:Foo.jpg|Left]] [[Image:Foo.jpg]]", "image foo jpg"),
        ("[[Category:Roman emperors|Nero]]", "roman emperors"),
        ("[[category:Cities]]", "cities"),
        ("[[fr:Anarchisme]] [[zh-min-nan:x]] end", "end"),
        ("{{Infobox|name=x}} text {| table |} end", "text end"),
        ("a&lt;ref name=x&gt;Smith 2001&lt;/ref&gt;b", "ab"),
        ("a&lt;br /&gt;b &lt;!-- hidden --&gt; &lt;i&gt;c&lt;/i&gt;", "ab c"),
        ("x&amp;nbsp;y &amp;mdash; z &quot;q&quot;", "x y z q"),
        ("AT&amp;T runs on; until here", "at until here"),
        ("&amp;lt;b&amp;gt; c", "c"),
        ("unclosed {{ brace [[ and link", "unclosed brace and link"),
    ],
)
def test_rules(markup, expected):
    assert words(markup) == expected


def dump(*texts: str) -> bytes:
    return (
        "<mediawiki>\n<siteinfo>skip</siteinfo>\n" + "".join(map(page, texts)) + "</mediawiki>"
    ).encode()


@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_one_line_an_article_whatever_the_chunks(size):
    xml = dump(
        "one\ntwo", "#REDIRECT [[Other]]", "#redirect [[x]]", "", "three\n\n== four ==\nfive"
    )
    lines = list(wikifil(xml[i : i + size] for i in range(0, len(xml), size)))
    assert [line.split() for line in lines] == [[b"one", b"two"], [b"three", b"four", b"five"]]
    assert all(line.count(b"\n") == 1 and line.endswith(b"\n") for line in lines)


def test_an_empty_text_element_lets_no_markup_through():
    xml = b'<page><text xml:space="preserve" /><id>five</id></page>' + dump("word")
    assert [line.split() for line in wikifil([xml])] == [[b"word"]]


def test_a_dump_cut_in_an_article_keeps_its_words():
    xml = dump("one", "two three")
    cut = xml[: xml.index(b"three") + 3]
    assert [line.split() for line in wikifil([cut])] == [[b"one"], [b"two", b"thr"]]


def test_no_dump_gives_no_words():
    assert list(wikifil([b"just a text file", b" with > and < in it"])) == []


def test_an_endless_article_is_refused(monkeypatch):
    monkeypatch.setattr(module, "_MAX_ARTICLE_BYTES", 50_000)
    with pytest.raises(UserError, match="must be a Wikipedia XML dump"):
        list(wikifil(b"x" * 1000 for _ in iter(int, 1)))
