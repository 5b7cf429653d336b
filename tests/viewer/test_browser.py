"""The viewer in a real browser: charts drawn, keyboard, live pages, a clean console."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eto.data.store import TrajectoryStore
from eto.types import Phase
from tests.viewer.conftest import episode

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")


@pytest.fixture
def tab(address: str) -> Iterator[Any]:
    """A page of the browser; it must leave a clean console."""
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(base_url=address)
        faults: list[str] = []
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        # What a page that was left at once still asked for is no fault.
        page.on("requestfailed", lambda r: r.failure == "net::ERR_ABORTED" or faults.append(r.url))
        yield page
        browser.close()
    assert faults == []


def test_from_the_list_to_a_task_that_was_gained(tab: Any) -> None:
    tab.goto("/")
    tab.get_by_role("link", name="small").click()
    chart = tab.locator("svg[aria-label='reward on test tasks']")
    assert chart.locator("circle").count() == 2 and chart.bounding_box()["width"] > 200
    assert tab.locator("polyline").count() == 1, "the training curve"
    tab.get_by_role("link", name="eto-1 beside sft on test").click()
    tab.get_by_role("link", name="toy/find/2").first.click()
    tab.wait_for_url("**/beside/**")
    tab.keyboard.press("j")
    tab.keyboard.press("j")
    assert tab.evaluate("document.activeElement.id") == "turn-2"
    assert tab.url.endswith("#turn-2"), "a deep link to the turn"
    tab.keyboard.press("k")
    assert tab.evaluate("document.activeElement.id") == "turn-1"
    assert tab.title() == "toy/find/2 · eto", "what an episode says is no program"


def test_episodes_by_filter_and_by_keyboard(tab: Any) -> None:
    tab.goto("/run/small/-/episodes")
    tab.get_by_label("filter").fill("outcome = lost and kind = find")
    tab.get_by_role("button", name="show").click()
    tab.wait_for_url("**filter=outcome**")
    assert "6 of 18 episodes" in tab.locator("main").inner_text()
    tab.keyboard.press("j")
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/episode/*")
    before = tab.url
    tab.keyboard.press("n")
    tab.wait_for_url(lambda url: url != before)
    assert tab.locator(".turns .step").count() == 2


def test_a_page_follows_its_run(tab: Any, run: Path) -> None:
    tab.goto("/")
    assert tab.get_by_role("cell", name="18", exact=True).count() == 1
    with TrajectoryStore(run / "trajectories.sqlite") as store:
        store.add(Phase.explore(2), episode(0, True, "eto-1", "train"))
    tab.get_by_role("cell", name="19", exact=True).wait_for(timeout=15_000)


def test_the_list_of_runs_is_sorted_and_narrowed_by_keyboard(tab: Any, run: Path) -> None:
    for name, seconds in (("quick", 5.0), ("slow", 7200.0), ("unknown", None)):
        other = run.parent / name
        done = other / "stages" / "sft" / "DONE"
        done.parent.mkdir(parents=True)
        (other / "recipe.yaml").write_text(f"name: {name}\nenvironment: {{name: toy}}\n")
        if seconds is not None:
            noted = {"stage": "sft", "seconds": seconds, "finished": "2026-01-01", "metrics": {}}
            done.write_text(json.dumps(noted))
    tab.goto("/")
    names = tab.locator("tbody tr:visible th")
    tab.get_by_role("button", name="wall time").focus()
    tab.keyboard.press("Enter")
    tab.keyboard.press("Enter")
    assert tab.locator("th[aria-sort=descending]").inner_text().startswith("wall time")
    assert names.all_inner_texts()[:2] == ["slow", "quick"], "two hours are more than five seconds"
    tab.get_by_role("button", name="reward").click()
    assert names.first.inner_text() == "small", "what is not known stands last"
    tab.locator("h1").click()
    tab.keyboard.press("/")
    tab.keyboard.type("toy slow")
    assert names.all_inner_texts() == ["slow"]
    assert "1 of 4 runs" in tab.locator("form output").inner_text()


@pytest.mark.parametrize(("width", "scheme"), [(375, "light"), (1280, "dark")])
def test_nothing_runs_off_the_page(tab: Any, run: Path, width: int, scheme: str) -> None:
    tab.set_viewport_size({"width": width, "height": 800})
    tab.emulate_media(color_scheme=scheme)
    paths = "changes", "episodes", "pairs/1", "pair/1/0", "tokens/1", "beside/2/3"
    (run / "metrics.jsonl").write_text("a line that is none\n" * 2)
    for path in ("/", "/run/small", *(f"/run/small/-/{each}" for each in paths)):
        tab.goto(path)
        assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), path
        letters = (
            "[...document.querySelectorAll('.chart text')].map((each) => each.getBoundingClientRect().height)"
        )
        assert all(height > 9 for height in tab.evaluate(letters)), f"{path}: letters of a chart too small"
    dark = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (dark == "rgb(255, 255, 255)") == (scheme == "light")
