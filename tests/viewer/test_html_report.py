"""A run as one HTML file: whole, safe, of bounded size, and opened in a real browser from the disk."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from eto.data.pair_scores import FILE, PairScores, SideScores, write_scores
from eto.errors import InputError
from eto.viewer import report
from eto.viewer.report import report_page
from eto.viewer.sample import spread
from tests.helpers.tiny import tiny_tokenizer
from tests.viewer.test_browser import CHROMIUM


class Parsed(HTMLParser):
    """Ids, links within the file, what it would load, and how its scripts and handlers look."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: Counter[str] = Counter()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.scripts = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        for name, value in attrs:
            assert not name.startswith("on"), (tag, name)
            if name == "id":
                self.ids[str(value)] += 1
            elif name == "href" and tag == "a":
                self.links.append(str(value))
            elif name in ("src", "href", "action", "srcset", "data"):
                self.loads.append(str(value))


@pytest.fixture
def scored(run: Path) -> Path:
    """The run with its pair scored, and with a tokenizer."""
    chosen = SideScores((2, 3), (-1.0, -4.0), (-1.0, -2.5))
    rejected = SideScores((2, 0), (-1.0, None), (-3.0, None))
    path = run / "stages" / "dpo-1" / FILE
    path.parent.mkdir()
    write_scores(path, [PairScores(0, "toy/find/0", "sft", "eto-1", chosen, rejected)])
    tiny_tokenizer().save_pretrained(run / "stages" / "sft" / "model")
    return run


def test_the_file_holds_all_that_it_links_to(scored: Path) -> None:
    text = report_page(scored, 4)
    parsed = Parsed(text)
    assert parsed.loads == ["data:,"] and parsed.scripts == 1
    assert "http:" not in text.replace("http://www.w3.org", "") and "https:" not in text
    assert set(parsed.links) and all(link.startswith("#") for link in parsed.links)
    assert {link[1:] for link in parsed.links} <= set(parsed.ids)
    assert max(parsed.ids.values()) == 1, "no anchor twice"
    kinds = Counter(
        re.sub(r"[-\d]+.*", "", name) for name in parsed.ids if not re.search("turn|parting", name)
    )
    assert kinds["beside"] == 4 and kinds["episode"] == 4 and kinds["pair"] == 1


def test_figures_of_pairs_and_tokens_with_loss(scored: Path) -> None:
    text = report_page(scored, 2)
    assert "the chosen side by <b>+1.50</b> nats and of the rejected side by <b>-2.00</b>" in text
    assert re.search(r"3 tokens: -4.00 nats before, -2.50 after.*?<b>\+1.50</b>", text)
    assert "weight 1.00" in text, "of the contrast"
    assert re.search(r"<mark title=\"turn 1, \d+ tokens with loss\">go north", text)
    assert "gained <small>" in text and "1 lost" in text


def test_tasks_that_changed_come_first(run: Path) -> None:
    text = report_page(run, 3)
    assert len(re.findall("<summary>toy/[a-z]+/[23], gained", text)) == 2
    assert len(re.findall("<summary>toy/[a-z]+/0, lost", text)) == 1
    assert "computes it" in text, "no pair has been scored"
    assert not re.findall("<mark ", text), "no tokenizer"


def test_text_of_episodes_stays_text(scored: Path) -> None:
    text = report_page(scored, 20)
    assert "<script>document" not in text and "&lt;script&gt;document" in text
    assert "\x1b" not in text
    assert Parsed(text).scripts == 1


def test_its_size_is_bounded(scored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "LONGEST", 30)
    whole = report_page(scored, 4)
    assert re.search(r"say &lt;script&gt;document.title = &#34;…", whole) and "more characters]" in whole
    monkeypatch.setattr(report, "LARGEST", 15_000)
    small = report_page(scored, 4)
    assert len(small) < len(whole) and re.search(r"\d+ parts were left out", small)
    parsed = Parsed(small)
    assert "run" in parsed.ids and {link[1:] for link in parsed.links} <= set(parsed.ids)


def test_a_run_that_has_only_begun(run: Path, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "recipe.yaml").write_text("name: begun\nenvironment: {name: toy}\n")
    text = report_page(begun, 4)
    assert "No agent has been played" in text
    with pytest.raises(InputError, match="no run"):
        report_page(tmp_path, 4)


@pytest.mark.parametrize(
    ("count", "most", "kept"), [(6, 3, [0, 2, 4]), (2, 5, [0, 1]), (5, 0, []), (0, 3, [])]
)
def test_a_sample_is_spread_evenly(count: int, most: int, kept: list[int]) -> None:
    assert spread(range(count), most) == kept


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
def test_it_opens_from_the_disk(scored: Path, tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    path = tmp_path / "mailed report.html"
    path.write_text(report_page(scored, 4), encoding="utf-8")
    faults: list[str] = []
    asked: list[str] = []
    with sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme="dark")
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        assert page.title() == "small · eto"
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
        assert page.locator("#run svg[aria-label='reward on test tasks'] circle").count() == 2
        assert not page.locator("#pair-1-0 .step").first.is_visible()
        page.locator("#run a[href='#pairs-1']").click()
        page.locator("#pairs-1 a.item").click()
        page.locator("#pair-1-0 .step").first.wait_for()
        assert page.locator("#pair-1-0 rect.bar").count() == 3
        page.keyboard.press("j")
        assert page.evaluate("document.activeElement.id") == "pair-1-0-turn-1"
        browser.close()
    assert faults == []
    assert asked == [path.as_uri()], "nothing else is asked for"
