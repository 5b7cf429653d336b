"""The pages of a run, asked for over HTTP as a browser does."""

from __future__ import annotations

import os
import re
import socket
import sqlite3
from pathlib import Path

import httpx2
import pytest


def page(address: str, path: str, status: int = 200, **options) -> str:
    reply = httpx2.get(f"{address}{path}", timeout=60, **options)
    assert reply.status_code == status, reply.text
    return reply.text


def links(text: str) -> list[str]:
    return [link.replace("&amp;", "&") for link in re.findall(r'href="(/[^"#]*)"', text)]


def test_every_link_leads_to_a_page(address: str) -> None:
    seen: set[str] = set()
    waiting = ["/"]
    while waiting:
        path = waiting.pop()
        if path in seen or path.startswith("/static"):
            continue
        seen.add(path)
        waiting += links(page(address, path))
    kinds = {re.sub(r"\d+", "N", path.split("?")[0]) for path in seen}
    assert kinds == {
        "/",
        "/run/small",
        "/run/small/-/changes",
        "/run/small/-/episodes",
        "/run/small/-/episode/N",
        "/run/small/-/tokens/N",
        "/run/small/-/beside/N/N",
        "/run/small/-/task",
        "/run/small/-/pairs/N",
        "/run/small/-/pair/N/N",
    }


def test_what_changed_is_counted_and_a_click_away(address: str) -> None:
    text = page(address, "/run/small")
    assert "<b>eto-1</b>: better on dev" in text
    for count in ("2 gained", "1 lost", "1 kept", "2 missed"):
        assert count in text
    assert text.count("<svg") == 2, "rewards and a training curve"
    text = page(address, "/run/small/-/changes?agent=sft&against=eto-1")
    assert "1 gained" in text and "2 lost" in text
    [link] = [
        each for each in links(text.split("gained <small>")[1].split("</section>")[0]) if "beside" in each
    ]
    text = page(address, link)
    assert "<h1>toy/find/0</h1>" in text and "from here on the two differ" in text
    assert text.count("go north") == 1, "what both share stands once"
    assert "take coin" in text and "log-prob -0.75 over 2 tokens" in text


def test_one_agent_is_not_compared_with_itself(address: str, run: Path) -> None:
    with sqlite3.connect(run / "trajectories.sqlite") as store:
        store.execute("DELETE FROM episodes WHERE phase = 'evaluate/eto-1/test'")
    assert "sft beside sft" not in page(address, "/run/small")
    assert "sft is the only agent that has played the test tasks" in page(address, "/run/small/-/changes")


def test_episodes_are_filtered_searched_and_sorted(address: str) -> None:
    def count(query: str) -> int:
        return int(
            re.search(r"([\d,]+) of [\d,]+ episodes", page(address, f"/run/small/-/episodes?{query}"))[1]
        )

    assert count("") == 18
    assert count("filter=outcome+%3D+won&phase=evaluate%2Feto-1%2Ftest") == 3
    assert count("text=take+coin") == 6
    assert count("filter=kind+%3D+find+and+reward+%3C+1") == 6
    text = page(address, "/run/small/-/episodes?sort=-reward")
    rewards = [float(each) for each in re.findall(r"<td>([01]\.\d{3})</td>", text)]
    assert rewards == sorted(rewards, reverse=True) and rewards[0] == 1
    text = page(address, "/run/small/-/episodes?filter=rewart+%3D+1", 404)
    assert "no &#39;rewart&#39;" in text


def test_text_from_episodes_stays_text(address: str) -> None:
    [path] = [p for p in links(page(address, "/run/small/-/pairs/1")) if "/pair/" in p]
    text = page(address, path)
    assert "<script>document" not in text and "&lt;script&gt;document" in text
    assert "\x1b" not in text and "\\x1b[31m" in text
    reply = httpx2.get(f"{address}{path}")
    assert "script-src 'self'" in reply.headers["content-security-policy"]


@pytest.mark.parametrize(
    "path",
    [
        "/run/other",
        "/run/small/-/episode/999",
        "/run/small/-/episode/" + "9" * 5000,
        "/run/small/-/beside/1/" + "9" * 30,
        "/run/small/-/pair/1/²",
        "/run/small/-/pairs/7",
        "/run/small/-/pairs/..%2f..%2f..%2fetc",
        "/run/small/-/pair/1/5",
        "/run/small/-/changes?agent=nobody",
        "/run/..%2f..%2fetc",
        "/run/%2fetc",
        "/run/small/-/episodes?sort=secret",
        "/static/..%2f..%2fapp.py",
        "/static/../app.py",
    ],
)
def test_what_is_not_there_is_not_shown(address: str, path: str) -> None:
    text = page(address, path, 404)
    assert "Traceback" not in text and "root:" not in text


@pytest.mark.parametrize("number", ["", "x", "²", "0", "9" * 5000])
def test_a_page_of_a_list_that_is_none_is_the_nearest(address: str, number: str) -> None:
    assert "18 of 18 episodes" in page(address, f"/run/small/-/episodes?page={number}")


@pytest.mark.parametrize("record", ["5", '"text"', "[]", '{"task":' + "[" * 5000, "{", b"\xff"])
def test_a_damaged_episode_is_told_of(address: str, run: Path, record: str | bytes) -> None:
    with sqlite3.connect(run / "trajectories.sqlite") as store:
        store.execute("UPDATE episodes SET record = ? WHERE rowid = 1", (record,))
    for path in ("episode/1", "beside/1/2"):
        assert "the record is damaged" in page(address, f"/run/small/-/{path}", 404)
    page(address, "/run/small")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:7420"}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "localhost:99"}, 200),
        ({"Host": "[::1]:99"}, 200),
    ],
)
def test_only_this_machine_is_answered(address: str, headers: dict[str, str], status: int) -> None:
    page(address, "/", status, headers=headers)


def test_it_only_reads(address: str, run: Path) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert httpx2.request(method, f"{address}/run/small").status_code == 405


def test_a_run_under_way(address: str, run: Path) -> None:
    assert "finished" in page(address, "/")
    for done in run.glob("stages/test/DONE"):
        done.unlink()
    assert "stopped" not in page(address, "/"), "this process has it open, by its note"
    assert re.search(r"runs, last written .* ago", page(address, "/run/small"))
    lock = run / "lock"
    lock.write_text("pid 999999999 on " + socket.gethostname())
    assert "stopped" in page(address, "/")
    lock.write_text(f"pid {os.getppid()} on {socket.gethostname()}")
    os.utime(lock, (1e9, 1e9))
    assert "stopped" in page(address, "/"), "another process has got its number since"
    lock.write_text("pid 1 on elsewhere")
    assert "last written" in page(address, "/")


def test_what_is_half_written_or_broken_hides_nothing_else(address: str, run: Path) -> None:
    half = run.parent / "half a#b?c%d"
    half.mkdir()
    (half / "recipe.yaml").write_text("name: half\nenvironment: {name: toy}\n")
    [path] = [link for link in links(page(address, "/")) if "half" in link]
    text = page(address, path)
    assert "<h1>half a#b?c%d</h1>" in text and "stopped" in text
    assert "0 of 0 episodes" in page(address, f"{path}/-/episodes")
    (half / "recipe.yaml").write_text("name: [half\n")
    assert "half" in page(address, "/") and "/run/small" in page(address, "/")
    assert "the recipe cannot be read" in page(address, path)
    (run / "trajectories.sqlite").write_bytes(b"broken" * 500)
    assert "the episodes cannot be read" in page(address, "/")
    text = page(address, "/run/small")
    assert "the episodes cannot be read" in text and "<polyline" in text, "its curves are there"
    assert "take coin" in page(address, "/run/small/-/pair/1/0"), "and so are its pairs"


def test_a_run_of_an_unknown_method_is_shown(address: str, run: Path) -> None:
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("name: eto", "name: later_method"))
    assert "<td>later_method</td>" in page(address, "/")
    text = page(address, "/run/small")
    assert "Not all of this run can be read" in text and "later_method" in text and "on toy, seed 0" in text
    assert re.search(r'<th scope="row">eto-1</th><td>6</td>', text), "agents that were played"
    assert "2 gained" in page(address, "/run/small/-/changes?agent=eto-1&against=sft")
    assert "take coin" in page(address, "/run/small/-/pair/1/0")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("metrics.jsonl", '{"stage": "sft", "step": 1, "loss": 2}\nnonsense\n', "metrics.jsonl:2"),
        ("manifest.json", '{"versions": ', "the manifest cannot be read"),
        ("stages/contrast-1/DONE", "", "what a stage noted cannot be read"),
        ("stages/contrast-1/DONE", '{"stage": 1, "seconds": 1, "finished": 2, "metrics": {}}', "restore it"),
        ("stages/contrast-1/pairs.jsonl", '{"task": {"id"', "the pairs of round 1 cannot be read"),
        ("stages/dpo-1/pair_log_probs.jsonl", '{"place": 0}\n', "the record of log-probs is damaged"),
    ],
)
def test_a_damaged_file_is_told_and_hides_no_other(
    address: str, run: Path, name: str, content: str, says: str
) -> None:
    path = run / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    text = page(address, "/run/small")
    assert says in text and "Traceback" not in text
    assert "2 gained" in text and "small" in page(address, "/")
