"""Takes the pictures of docs/images that show the viewer and a report, in a real browser.

python scripts/viewer_pictures.py [RUN]

RUN: a finished run with scored pairs of round 1; without it a small one is made, which takes some minutes.
Needs playwright and Debian's chromium, as the tests of the viewer do.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from eto.data.formats import read_pairs  # noqa: E402
from eto.viewer.report import report_page  # noqa: E402
from tests.helpers.viewing import viewer  # noqa: E402

PICTURES = ROOT / "docs" / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SMALL = (
    *("name=text-game", "tasks.train_per_kind=24", "tasks.dev_per_kind=12", "tasks.test_per_kind=12"),
    *("method.sft.epochs=4", "method.iterations=1", "method.explore.samples=1", "method.dpo.batch_size=4"),
)
"""How the run is smaller than its recipe says."""
WIDTH, HEIGHT, HIGHER = 1100, 600, 1000


def main() -> None:
    """Write the pictures."""
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else _small_run(Path(scratch) / "text-game")
        report = Path(scratch) / "report.html"
        report.write_text(report_page(run), encoding="utf-8")
        with viewer(run) as address, sync_playwright() as engine:
            program = next(filter(None, map(shutil.which, BROWSERS)), None)
            if program is None:
                sys.exit(f"there is no Chromium here: install one of {', '.join(BROWSERS)}")
            browser = engine.chromium.launch(executable_path=program, args=["--no-sandbox"])
            tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
            _take_pair(tab, f"{address}/run/{run.name}/-/pair/1/{_shortest(run)}")
            _take_report(tab, report.as_uri())
            browser.close()


def _small_run(directory: Path) -> Path:
    recipe = ROOT / "recipes" / "methods" / "eto.yaml"
    for command in (
        ["run", str(recipe), f"run_directory={directory}", *SMALL],
        ["score-pairs", str(directory)],
    ):
        subprocess.run([sys.executable, "-m", "eto", *command], check=True)
    return directory


def _shortest(run: Path) -> int:
    """The place of the pair with the fewest turns that begins with a turn that both sides share."""
    pairs = dict(enumerate(read_pairs(run / "stages" / "contrast-1" / "pairs.jsonl")))
    shared = {place: pair for place, pair in pairs.items() if pair.shared_turns} or pairs
    return min(shared, key=lambda place: len(shared[place].chosen.turns) + len(shared[place].rejected.turns))


def _take_pair(tab: Page, address: str) -> None:
    """A pair turn by turn, in the viewer."""
    tab.goto(address)
    prompt = tab.locator(".prompt")
    prompt.evaluate("each => { each.open = false; each.scrollIntoView(); }")
    tab.evaluate("window.scrollBy(0, -50)")
    tab.screenshot(path=PICTURES / "view-pair.png")


def _take_report(tab: Page, address: str) -> None:
    """A pair with the change of each of its turns, in a report."""
    tab.set_viewport_size({"width": WIDTH, "height": HIGHER})
    tab.goto(address)
    pair = tab.locator("details.page", has_text="changed the log-prob").first
    pair.locator("summary").first.click()
    pair.locator(".prompt").evaluate("each => { each.open = false; }")
    pair.evaluate("each => each.scrollIntoView()")
    tab.evaluate("window.scrollBy(0, -80)")
    tab.screenshot(path=PICTURES / "report-pair.png")


if __name__ == "__main__":
    main()
