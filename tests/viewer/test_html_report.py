"""A run as one HTML file: whole, safe, of bounded size, and opened in a real browser from the disk."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from eto.data.pair_scores import FILE, PairScores, SideScores, write_scores
from eto.errors import InputError
from eto.evaluation.pooled import pool_runs
from eto.viewer import report
from eto.viewer.report import pooled_page, report_page
from eto.viewer.sample import spread
from tests.helpers.tiny import tiny_tokenizer
from tests.viewer.conftest import make_run
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


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens a report from the disk in a real browser, which must leave a clean console and ask for nothing
    else."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here")
    faults: list[str] = []
    asked: list[str] = []
    path = tmp_path / "mailed report.html"
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])

        def open_report(text: str, width: int = 375, scheme: str = "dark") -> Any:
            path.write_text(text, encoding="utf-8")
            page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
            page.on("console", lambda message: faults.append(message.text))
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on("request", lambda request: asked.append(request.url))
            page.goto(path.as_uri())
            return page

        yield open_report
        browser.close()
    assert faults == []
    assert set(asked) == {path.as_uri()}, "nothing else is asked for"


def test_it_opens_from_the_disk(scored: Path, opened: Callable[..., Any]) -> None:
    page = opened(report_page(scored, 4))
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
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    page.locator("#pair-1-0 .step").first.wait_for(state="hidden")


def shown_parts(page: Any) -> list[str]:
    """Summaries of the parts that the form lets through, once it says so."""
    return [each.inner_text() for each in page.locator("details[data-sides] > summary:visible").all()]


def choose(page: Any, field: str, value: str) -> None:
    page.locator(f"#choose select[name={field}]").select_option(value)
    page.wait_for_timeout(300)


def test_parts_are_chosen_without_a_network(scored: Path, opened: Callable[..., Any]) -> None:
    page = opened(report_page(scored, 20))
    told = page.locator("#choose output")
    assert told.inner_text() == "25 parts", "6 tasks, 1 pair, 18 episodes"
    choose(page, "change", "gained")
    assert [text for text in shown_parts(page) if "gained" in text] == [
        "toy/find/2, gained",
        "toy/find/3, gained",
    ]
    assert told.inner_text() == "6 of 25 parts fit", "and the episodes of both agents on these tasks"
    choose(page, "agent", "eto-1")
    choose(page, "kind", "find")
    assert shown_parts(page) == ["toy/find/3, gained", "toy/find/3 in evaluate/eto-1/test, won"]
    choose(page, "outcome", "lost")
    assert shown_parts(page) == [], "sft lost, but eto-1 did not: one episode has to have all"
    assert page.locator("#Episodes small").inner_text() == "0 of 18"
    page.get_by_role("button", name="show all").click()
    page.wait_for_timeout(300)
    assert told.inner_text() == "25 parts" and len(shown_parts(page)) == 25
    choose(page, "stop", "out_of_turns")
    assert all("toy" in text or "pair" in text for text in shown_parts(page))
    assert 0 < len(shown_parts(page)) < 25


def test_text_is_searched_by_keyboard(scored: Path, opened: Callable[..., Any]) -> None:
    page = opened(report_page(scored, 20), 1280, "light")
    page.keyboard.press("/")
    page.keyboard.type("FIND  coin 4")
    page.keyboard.press("Enter")
    parts = shown_parts(page)
    assert len(parts) == 4 and all("toy/find/4" in text for text in parts)
    assert page.url.endswith(".html"), "nothing was sent"
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.textContent").startswith("toy/find/4"), (
        "hidden ones are passed"
    )
    page.evaluate("location.hash = '#pair-1-0'")
    page.locator("#pair-1-0 .step").first.wait_for()
    assert page.locator("#choose output").inner_text() == "25 parts", "a link shows what was hidden"


@pytest.fixture
def several(tmp_path: Path) -> list[Path]:
    """Three runs, two of which have one name."""
    return [make_run(tmp_path / name) for name in ("a/small", "b/small", "c")]


def test_several_runs_are_pooled(several: list[Path]) -> None:
    text = pooled_page(several, episodes=2)
    parsed = Parsed(text)
    assert parsed.loads == ["data:,"] and parsed.scripts == 1
    assert {link[1:] for link in parsed.links} <= set(parsed.ids) and max(parsed.ids.values()) == 1
    pooled = pool_runs(several)["agents"]["eto-1"]
    low, high = (pooled["difference"]["reward"][bound] for bound in ("seeds_low", "seeds_high"))
    assert f"[{low:+.3f}, {high:+.3f}]" in text
    assert re.search(r"<th scope=\"row\"><a href=\"#r2-run\">b/small</a></th>", text), "each run has a row"
    chart = text.split('aria-label="reward on test tasks, 3 runs"')[1].split("</svg>")[0]
    assert chart.count('class="dot"') == 3 and chart.count('class="single"') == 9
    assert "eto-1 in small/c" not in chart and "<title>eto-1 in a/small: 0.625</title>" in chart
    for name in ("a/small", "b/small"):
        assert len(re.findall(f"<summary>{name}: toy/find/. in", text)) == 2


def test_runs_beside_others_are_a_table_too(several: list[Path]) -> None:
    text = pooled_page(several[:1], several[1:2], episodes=0)
    assert "agent minus that of small" in text
    with pytest.raises(InputError, match="twice"):
        pooled_page([several[0], several[0]])
    with pytest.raises(InputError, match="cannot be paired"):
        pooled_page(several[:1], several)


def test_pooled_runs_are_told_apart_in_the_browser(several: list[Path], opened: Callable[..., Any]) -> None:
    page = opened(pooled_page(several, episodes=3))
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    choose(page, "run", "b/small")
    parts = shown_parts(page)
    assert len(parts) == 7 and all(text.startswith("b/small: ") for text in parts)
    page.locator("#pooled a[href='#r3-run']").click()
    page.locator("#r3-run svg").first.wait_for()


def test_what_cannot_be_read_is_told(scored: Path) -> None:
    store = scored / "trajectories.sqlite"
    with sqlite3.connect(store) as db:
        db.execute("UPDATE episodes SET record = '{}' WHERE rowid = 2")
    (scored / "stages" / "contrast-1" / "pairs.jsonl").write_text("{")
    recipe = scored / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("name: eto", "name: later_method"))
    text = report_page(scored, 20)
    assert "later_method" in text and "the pairs of round 1 cannot be read" in text
    assert "This cannot be shown" in text and "row 2" in text, "in place of the damaged episode"
    assert "gained <small>" in text and "take coin" in text
    parsed = Parsed(text)
    assert {link[1:] for link in parsed.links} <= set(parsed.ids)
