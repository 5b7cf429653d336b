"""Data files as bytes: Parquet, saved data sets, and what is told of files that cannot be read."""

from __future__ import annotations

import builtins
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from eto.data.formats import read_pairs, read_trajectories
from eto.data.jsonfiles import read_items
from eto.errors import InputError, MissingRequirement
from eto.types import ToolCall

CALLS = [
    {"id": "c", "type": "function", "function": {"name": "search", "arguments": {"query": "mug"}}},
    {"id": "d", "type": "function", "function": {"name": "buy", "arguments": {"number": 1}}},
]
ITEMS: list[dict[str, Any]] = [
    {
        "id": 1,
        "idx": 5,
        "reward": 1.0,
        "messages": [
            {"role": "user", "content": "Buy."},
            {"role": "assistant", "content": None, "tool_calls": CALLS},
            {"role": "tool", "content": "3", "tool_call_id": "c"},
            {"role": "assistant", "content": "Bought.", "weight": 0},
            {"role": "user", "content": "Good."},
            {"role": "assistant", "content": "Bye."},
        ],
    },
    {
        "id": 2,
        "reward": 0.5,
        "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
    },
]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder with the items in every form."""
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    data = datasets.Dataset.from_list(ITEMS)
    data.save_to_disk(tmp_path / "one")
    data.select([1]).save_to_disk(tmp_path / "selected")
    datasets.DatasetDict(train=data, test=data).save_to_disk(tmp_path / "two")
    data.to_parquet(tmp_path / "items.parquet")
    (tmp_path / "lines.jsonl").write_text("\n".join(map(json.dumps, ITEMS)))
    return tmp_path


@pytest.mark.parametrize("name", ["one", "items.parquet", "two/test", "one/data-00000-of-00001.arrow"])
@pytest.mark.filterwarnings("ignore:.*ignored fields")
def test_a_table_is_read_as_its_lines(saved: Path, name: str) -> None:
    found = read_trajectories(saved / name)
    assert found == read_trajectories(saved / "lines.jsonl")
    assert found[0].turns[0].tool_calls[0] == ToolCall("search", '{"query": "mug"}', "c")
    assert [turn.loss for turn in found[0].turns] == [True, False, True]
    assert (found[1].task.id, found[1].reward) == ("2", 0.5)


def test_a_parquet_file_by_its_content_and_its_rows(saved: Path) -> None:
    (saved / "items.parquet").rename(saved / "split=train.bin")
    items = read_items(saved / "split=train.bin")
    assert items[1][0].endswith("split=train.bin, row 1") and "weight" not in items[0][1]["messages"][0]
    assert [each["id"] for _, each in read_items(saved / "selected")] == [2]


def test_splits_are_named(saved: Path) -> None:
    with pytest.raises(InputError, match="train, test") as caught:
        read_trajectories(saved / "two")
    assert str(saved / "two" / "train") in caught.value.hint
    with pytest.raises(InputError, match="directory") as caught:
        read_trajectories(saved)
    assert "items.parquet" in caught.value.hint


def test_damaged_tables(saved: Path) -> None:
    data = (saved / "items.parquet").read_bytes()
    (saved / "items.parquet").write_bytes(data[: len(data) // 2])
    arrow = saved / "one" / "data-00000-of-00001.arrow"
    arrow.write_bytes(arrow.read_bytes()[:100])
    (saved / "empty.parquet").write_bytes(b"")
    for name in ("items.parquet", "one", "empty.parquet"):
        with pytest.raises(InputError, match="not a readable table"):
            read_items(saved / name)
    arrow.unlink()
    with pytest.raises(InputError, match="No such file"):
        read_items(saved / "one")
    (saved / "outside.arrow").write_bytes(b"")
    for files in ('[{"file": "x"}]', '"x"', "3", '[{"filename": "../outside.arrow"}]', '[{"filename": 1}]'):
        (saved / "one" / "state.json").write_text(f'{{"_data_files": {files}}}')
        with pytest.raises(InputError, match="no name of a file in this directory") as caught:
            read_items(saved / "one")
        assert caught.value.where.endswith("state.json")
    (saved / "one" / "state.json").write_text('{"_data_files": [')
    with pytest.raises(InputError, match="state"):
        read_items(saved / "one")


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingRequirement, match=r"eto-agent\[files\]"):
        read_items(tmp_path / "a.parquet")


GOOD = json.dumps(ITEMS[1])


@pytest.mark.parametrize(
    ("content", "words", "not_words"),
    [
        (None, ["No such file", "check the path"], ["cut short"]),
        ("dir", ["directory"], ["no such", "check the path"]),
        (b"", ["empty"], []),
        (GOOD.encode() + b"\n" + GOOD.encode()[:-9], ["line 2", "the file ends", "cut short"], []),
        (GOOD.encode()[:-9] + b"\n" + GOOD.encode() + b"\n", ["line 1", "not valid JSON"], ["cut short"]),
        (b'{"id": 1, "messages": }\n', ["line 1", "not valid JSON", "column"], ["cut short"]),
        (b"[" + GOOD.encode() + b",\n" + GOOD.encode()[:20], ["line 2", "cut short"], []),
        (b"[" + GOOD.encode() + b",\n{]", ["line 2", "not valid JSON"], ["cut short"]),
        (b"hello", ["not valid JSON"], ["cut short"]),
        (b"[1]", ["item [0]", "int"], []),
        (GOOD.encode("utf-16"), ["UTF-16", "iconv"], ["JSON"]),
        (GOOD.encode("utf-16-le"), ["UTF-16"], ["JSON"]),
        (GOOD.encode("utf-32"), ["UTF-32"], ["JSON"]),
        (GOOD.encode() + b'\n{"id": "\xe9"}', ["not UTF-8", "line 2"], ["cut short"]),
        (b"PK\x03\x04abc", ["zip"], ["UTF-8"]),
        (gzip.compress(b"PAR1abc", mtime=0), ["Parquet", "unpack"], ["UTF-8"]),
        (b"(\xb5/\xfdabc", ["zstd"], ["UTF-8"]),
        (gzip.compress(GOOD.encode(), mtime=0)[:-9], ["cut short"], ["UTF-8"]),
        (b"\x1f\x8bnot gzip", ["compressed"], ["cut short", "UTF-8"]),
        (b"[" * 100_000, ["nested"], ["cut short"]),
        (b'{"a": ' * 100_000, ["nested"], ["cut short"]),
        (b'{"id": 1, "meta": ' + b"[" * 500 + b"]" * 500 + b"}", ["line 1", "nested"], []),
        (b'{"id": ' + b"9" * 5000 + b"}", ["line 1", "thousands of digits"], ["cut short"]),
        (b'{"id": 1, "reward": 0, "reward": 1}', ["line 1", "'reward'", "twice"], []),
        (b'{"id": 1, "meta": {"a": 1, "a": 1}}', ["'a'", "twice"], []),
        (GOOD.replace("0.5", "1e999").encode(), ["'reward'", "inf"], []),
        (GOOD.replace("0.5", "9" * 4000).encode(), ["'reward'", "[0, 1]"], []),
    ],
)
def test_each_fault_of_a_file_is_told_as_what_it_is(
    tmp_path: Path, content: bytes | str | None, words: list[str], not_words: list[str]
) -> None:
    path = tmp_path / "data"
    if content == "dir":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    for read in (read_trajectories, read_pairs):
        with pytest.raises(InputError) as caught:
            read(path)
        if read is read_trajectories:
            told = str(caught.value)
            assert all(word in told for word in [str(path), *words]), told
            assert not any(word in told for word in not_words), told
            assert caught.value.hint and len(told) < 700


def test_a_byte_order_mark_and_an_object_over_several_lines(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(ITEMS[1], indent=2).encode())
    assert [item["id"] for _, item in read_items(tmp_path / "a.json")] == [2]
    (tmp_path / "b.jsonl").write_bytes(b"\xef\xbb\xbf" + GOOD.encode() + b"\r\n\r\n" + GOOD.encode())
    assert [where[-6:] for where, _ in read_items(tmp_path / "b.jsonl")] == ["line 1", "line 3"]


def test_halves_of_pairs(tmp_path: Path) -> None:
    text = r'{"id": "\ud83d", "a": "\ud83d\ude00", "\udc00": ["x\ude00\ud83dy"]}'
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.warns(UserWarning, match=": 4"):
        [(_, item)] = read_items(tmp_path / "a.jsonl")
    assert item == {"id": "\ufffd", "a": "\U0001f600", "\ufffd": ["x\ufffd\ufffdy"]}
