"""The page in a real browser: it opens from the disk alone, and every control does its work."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from fake_runs import make_run
from html_page import Page
from small_runs import small_config

from w2v_inf.config import Config
from w2v_inf.errors import UserError
from w2v_inf.explore import page as stage
from w2v_inf.explore.page import explore
from w2v_inf.training.train import train

MODELS = ("model=ntk_limit", "model.width=5", "model=mup_limit")
needs_bokeh = pytest.mark.skipif(
    find_spec("bokeh") is None, reason="the extra `explore` is not installed"
)
pytestmark = [pytest.mark.slow, needs_bokeh]  # trains runs and starts a browser


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Config]:
    """Composes the options of a stage on shared runs of three models."""
    root = tmp_path_factory.mktemp("explore")
    folders = [train(small_config(root, model, "stream.architecture=cbow")) for model in MODELS]
    runs = f"plot.runs=[{','.join(map(str, folders))}]"
    return lambda *overrides: small_config(root, runs, *overrides)


@pytest.fixture(scope="module")
def path(options: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return explore(options(f"plot.out={tmp_path_factory.mktemp('page')}"))


class Opened:
    """A page that is ready, with what it logged and asked for."""

    def __init__(self, browser: Any, path: Path, width: int = 1280) -> None:
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.page = browser.new_page(viewport={"width": width, "height": 900})
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", self._note)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-ready]", state="attached")

    def _note(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(message.text)

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)

    def wait_for(self, selector: str, text: str) -> None:
        self.page.locator(selector).filter(has_text=text).wait_for()

    def search(self, word: str) -> None:
        self.page.fill("#word", word)
        self.page.press("#word", "Enter")


@pytest.fixture
def opened(browser: Any, path: Path) -> Iterator[Opened]:
    """The page in a window of its own; at the end nothing may have gone wrong."""
    window = Opened(browser, path)
    yield window
    assert window.problems == []
    assert window.requests == [path.as_uri()]
    window.page.close()


def test_it_opens_from_the_disk_alone(opened: Opened) -> None:
    assert [opened.text(f".map:nth-child({i}) h3") for i in (1, 2, 3)] == [
        "NTK limit",
        "width 5",
        "muP limit",
    ]
    opened.wait_for("#answered", "man : king :: woman : ?")


def test_search_selects_a_word(opened: Opened) -> None:
    opened.search("Berlin")
    opened.wait_for("#found", "“berlin”")
    table = opened.text("#neighbours")
    assert "Nearest to “berlin”" in table and "every word ties at 0.00" in table
    opened.page.click("#neighbours button.word >> nth=0")
    assert "berlin" not in opened.text("#found")


def test_a_word_that_is_not_there_gets_the_nearest_spelling(opened: Opened) -> None:
    opened.search("pariss")
    opened.wait_for("#found", "“pariss” is not among the 30 words of this page")
    assert "Nearest spelling: paris," in opened.text("#found")


def test_a_hover_shows_neighbours_and_a_click_selects(opened: Opened) -> None:
    x, y = opened.page.evaluate(POSITION_OF, ["rome", 2])
    opened.page.mouse.move(x, y)
    opened.wait_for("#hovered", "rome")
    opened.wait_for("#neighbours caption", "Nearest to “rome”")
    assert opened.page.evaluate(MARKED, ["hovered", 0]) == 1  # in every panel
    assert opened.page.evaluate(MARKED, ["neighbours", 2]) == 10
    assert opened.page.evaluate(MARKED, ["neighbours", 0]) == 0  # all tie
    opened.page.mouse.move(2, 2)
    opened.wait_for("#neighbours caption", "Nearest to “france”")
    opened.page.mouse.click(x, y)
    opened.wait_for("#found", "“rome”")


POSITION_OF = """([word, m]) => {
  const plot = Bokeh.documents[0].get_model_by_name(`map${m}`);
  const view = Bokeh.index.get_by_id(plot.id), { x_range: across, y_range: up } = plot;
  const dots = plot.renderers[0].data_source.data, row = dots.word.indexOf(word);
  const box = view.el.getBoundingClientRect(), frame = view.frame.bbox;
  const right = (dots[`x${m}`][row] - across.start) / (across.end - across.start);
  const down = (up.end - dots[`y${m}`][row]) / (up.end - up.start);
  return [box.x + frame.left + right * frame.width, box.y + frame.top + down * frame.height];
}"""
MARKED = """([name, m]) => {
  const plot = Bokeh.documents[0].get_model_by_name(`map${m}`);
  return plot.renderers.find((r) => r.data_source.name === `${name}${m}`).data_source.data.x.length;
}"""


def test_analogies_are_answered_by_each_model(opened: Opened) -> None:
    for name, word in zip("abc", ("france", "paris", "germany"), strict=True):
        opened.page.fill(f"#{name}", word)
    opened.page.press("#c", "Enter")
    opened.wait_for("#answers caption", "france : paris :: germany")
    rows = opened.page.locator("#answers tbody tr")
    assert rows.count() == 5 and "no answer: every word ties at 0.00" in rows.first.inner_text()
    assert rows.nth(4).locator("button.word").count() == 2
    opened.page.fill("#a", "frnace")
    opened.page.press("#a", "Enter")
    opened.wait_for("#answered", "Nearest spelling: france")


def test_the_slider_moves_a_group(opened: Opened) -> None:
    opened.page.check("#alone")
    opened.wait_for("#epoch-now", "epoch 2 of 2")
    ends = [spread(opened, m) for m in range(3)]
    opened.page.focus("#epoch")
    for _ in range(2):
        opened.page.keyboard.press("ArrowLeft")
    opened.wait_for("#epoch-now", "epoch 0 of 2, before training")
    opened.wait_for("#about2", "(silhouette): 0.00")  # all words are orthogonal
    opened.page.wait_for_timeout(800)  # the movement takes 400 ms
    starts = [spread(opened, m) for m in range(3)]
    assert starts[0] == ends[0] > 0  # the NTK limit stays put
    assert starts[1] != ends[1] and starts[2] != ends[2]


def spread(opened: Opened, m: int) -> float:
    """The extent of the words of a map along its first axis."""
    return opened.page.evaluate(
        """(m) => {
          const plot = Bokeh.documents[0].get_model_by_name(`map${m}`);
          const dots = plot.renderers[0].data_source.data;
          return Math.max(...dots[`x${m}`]) - Math.min(...dots[`x${m}`]);
        }""",
        m,
    )


def test_every_group_and_own_words_can_be_coloured(opened: Opened) -> None:
    names = opened.page.locator("#group option").all_inner_texts()
    assert names == ["states and cities", "countries and capitals", "gender pairs", "none"]
    for name in names[:3]:
        opened.page.select_option("#group", name)
        assert opened.page.evaluate(MARKED, ["first", 1]) >= 2
    opened.page.select_option("#group", "none")
    assert opened.page.evaluate(MARKED, ["first", 1]) == 0
    opened.page.fill("#own-words", "paris, w3 nowhere")
    opened.page.press("#own-words", "Enter")
    opened.wait_for("#own-found", "2 words coloured. “nowhere” is not among")
    assert opened.page.evaluate(MARKED, ["own", 1]) == 2


def test_curves_can_be_hidden(opened: Opened) -> None:
    visible = (
        """() => Bokeh.documents[0].get_model_by_name("loss").renderers.map((r) => r.visible)"""
    )
    assert opened.page.evaluate(visible) == [True, True, True]
    opened.page.uncheck("[data-curve='1']")
    assert opened.page.evaluate(visible) == [True, False, True]


@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_the_screen_in_readable_type(width: int, browser: Any, path: Path) -> None:
    window = Opened(browser, path, width)
    assert window.page.evaluate("document.documentElement.scrollWidth") == width
    sizes = window.page.evaluate(
        """() => [...document.querySelectorAll("main *")].filter((e) => e.innerText?.trim())
          .map((e) => parseFloat(getComputedStyle(e).fontSize))"""
    )
    assert len(sizes) > 50 and min(sizes) >= 12
    unnamed = window.page.evaluate(
        """() => [...document.querySelectorAll("main input, main select, main button")]
          .filter((e) => !(e.labels?.length || e.innerText?.trim() || e.ariaLabel)).length"""
    )
    assert unnamed == 0 and window.problems == []
    window.page.close()


NUM_COLOURS = """(i) => {
  const image = document.querySelectorAll("img.printed")[i];
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
  return new Set(new Uint32Array(pixels.buffer)).size;
}"""


def test_paper_gets_pictures_of_every_figure(browser: Any, path: Path) -> None:
    window = Opened(browser, path)
    window.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    window.page.emulate_media(media="print")
    pictures = window.page.locator("img.printed")
    assert pictures.count() == 5 and all(picture.is_visible() for picture in pictures.all())
    assert all(window.page.evaluate(NUM_COLOURS, i) > 10 for i in range(5))  # none is blank
    window.page.close()


def test_its_markup_is_whole_and_names_nothing_outside(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", text)
    [data] = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert json.loads(data)["words"][0]
    without_scripts = re.sub(r"<(script|style|svg)\b.*?</\1>", "", text, flags=re.S)
    page = Page(re.sub(r"<(input|link|meta)\b[^>]*>", "", without_scripts))
    shown = " ".join(page.text)
    assert "30 words: those of the groups" in shown and "standard questions" in shown


def test_a_run_without_a_history_has_no_slider(
    options: Callable[..., Config], browser: Any, tmp_path: Path
) -> None:
    copies = [shutil.copytree(folder, tmp_path / f"run{i}") for i, folder in
              enumerate(options().plot.runs)]  # fmt: skip
    for copy in copies:
        (copy / "groups.npz").unlink()
    path = explore(options(f"plot.runs=[{tmp_path}]", f"plot.out={tmp_path}"))
    window = Opened(browser, path)
    notes = window.page.locator(".note").all_inner_texts()
    assert [
        note for note in notes if note.startswith("No slider for NTK limit, width 5, muP limit")
    ]
    window.page.check("#alone")
    window.wait_for("#epoch-now", "No slider: no run has stored its epochs")
    assert window.page.is_disabled("#epoch") and window.problems == []
    window.page.close()


def test_words_that_look_like_markup_are_words(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "toy.txt").write_text("</script> <b>x</b> & \"quote' one two\n" * 60)
    path = explore(small_config(tmp_path, f"plot.runs=[{train(small_config(tmp_path))}]"))
    window = Opened(browser, path)
    window.search("</script>")
    window.wait_for("#found", "“</script>”")
    assert window.problems == []
    assert window.page.locator(".curve").count() == 1  # no question, so no accuracy
    window.page.close()


def test_missing_bokeh_is_one_line(
    options: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"needs the package bokeh: pip install 'w2v_inf\[explore\]'"
    ):
        explore(options())


def test_an_empty_folder_is_one_line(options: Callable[..., Config], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no finished run"):
        explore(options(f"plot.runs=[{tmp_path}]"))


def test_a_run_without_its_tensors_is_one_line(
    options: Callable[..., Config], tmp_path: Path
) -> None:
    make_run(tmp_path / "a", width=64)
    with pytest.raises(UserError, match="vocab.tsv"):
        explore(options(f"plot.runs=[{tmp_path}]"))
    assert not (tmp_path / "explore.html").exists()
