"""WebShop's store on disk: the same shop as in memory, built once, repaired when it is not whole."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csc_array

from eto.environments import load_suite
from eto.environments.webshop import catalogue as catalogue_module
from eto.environments.webshop import postings
from eto.environments.webshop.catalogue import build_catalogue, find_files, load_catalogue
from eto.environments.webshop.generated import generated_files
from eto.environments.webshop.goals import draw_prices, make_goals
from eto.environments.webshop.search import Index, analyse, searched_text
from eto.errors import EnvironmentFailure, InputError, MissingRequirement

COUNT = 2000
QUERIES = ["desk lamp", "water proof bluetooth speaker red", "men's shoes size 10", "elver", "nothing xyzzy"]
SCRIPT = (
    "import sys; from eto.environments import load_suite;"
    "s = load_suite('webshop', tagger='words', data=sys.argv[1]);"
    "print(s._shop.index.search('desk lamp'), s._goals[7])"
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("ETO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "webshop"


@pytest.fixture(scope="module")
def files() -> tuple[list, dict, dict]:
    """A generated shop with gaps, duplicates and goals that people wrote."""
    items, told = generated_files(COUNT, seed=5)
    draw = random.Random(1)
    entry = {"instruction": "i want it.", "instruction_attributes": ["long"], "instruction_options": ["red"]}
    human = {item["asin"]: [entry, dict(entry, instruction="again")] for item in draw.sample(items, 50)}
    for item in draw.sample(items, 200):
        item["pricing"] = draw.choice(["", "$5", "$985.5 to $1,200", "$x"])
        item["customization_options"] = draw.choice([{}, {"Size": "large"}, {"Size": []}, {"Size": None}])
    for item in draw.sample(items, 50):
        told[item["asin"]]["instruction"] = None
        item["full_description"] = "caf\u00e9 \ud83d lamp " * draw.randrange(200)
    human["B000000000"] = [entry]
    return [*items, dict(items[0]), {"asin": "nan"}], told, human


def write(directory: Path, files: tuple, packed: bool = False) -> Path:
    directory.mkdir(exist_ok=True)
    for name, content in zip(("items_shuffle", "items_ins_v2", "items_human_ins"), files, strict=True):
        text = json.dumps(content, indent=1)
        path = directory / f"{name}.json"
        if packed:
            with gzip.open(f"{path}.gz", "wt", encoding="utf-8", compresslevel=1) as stream:
                stream.write(text)
        else:
            path.write_text(text, encoding="utf-8")
    return directory


def small(tmp_path: Path, count: int = 40) -> Path:
    return write(tmp_path / "data", (*generated_files(count, seed=2), {}))


def load(directory: Path):
    return load_catalogue(find_files(directory))


def summary(catalogue) -> list:
    """All that the two kinds of store may differ in."""
    draw = random.Random(3)
    prices = draw_prices(catalogue, draw)
    goals = [list(make_goals(catalogue, prices, kind, draw)) for kind in ("synthetic", "human")]
    index = Index(catalogue.products)
    found = [index.search(query) for query in QUERIES]
    products = list(catalogue.products)
    assert products[::100] == [catalogue.by_asin[product.asin] for product in products[::100]]
    return [products, prices, goals, found, catalogue.skipped]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_on_disk_the_shop_is_that_in_memory(tmp_path, files, packed, monkeypatch):
    wanted = summary(build_catalogue(*files, where="test"))
    assert len(wanted[0]) == COUNT and all(len(found) > 10 for found in wanted[3][:-1])
    monkeypatch.setattr(postings, "RUN", 7_000)
    monkeypatch.setattr(postings, "BLOCK", 3_000)
    directory = write(tmp_path / "data", files, packed)
    assert summary(load(directory)) == wanted
    assert summary(load(directory)) == wanted, "out of the cache"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_scores_are_those_of_the_formula(files):
    """BM25 over a sparse matrix of all counts, without runs and merging."""
    catalogue = build_catalogue(*files, where="test")
    texts = [analyse(searched_text(product)) for product in catalogue.products]
    words = {word: number for number, word in enumerate(sorted(set(itertools.chain(*texts))))}
    rows = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    counts = csc_array(
        (np.ones(len(rows), np.float32), (rows, [words[word] for text in texts for word in text])),
        shape=(len(texts), len(words)),
    )
    counts.sum_duplicates()
    lengths = np.array([len(text) for text in texts])
    holding = np.diff(counts.indptr)
    rarity = np.log1p((len(texts) - holding + 0.5) / (holding + 0.5)).astype(np.float32)
    norm = 0.9 * (1 - 0.4 + 0.4 * postings._coarse(lengths) / lengths.mean())
    scale = (1 / norm).astype(np.float32)
    arrays = catalogue.products.arrays
    for word, number in words.items():
        part = slice(*counts.indptr[number : number + 2])
        own = slice(*arrays["firsts"][catalogue.products.column(word) :][:2])
        assert np.array_equal(arrays["rows"][own], counts.indices[part])
        weight = rarity[number] - rarity[number] / (1 + counts.data[part] * scale[counts.indices[part]])
        assert np.array_equal(arrays["weights"][own], weight)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_goals_are_those_of_a_shuffled_list(files):
    catalogue = build_catalogue(*files, where="test")
    wanted = []
    for product in catalogue.products:
        if product.instruction is not None:
            names = sorted(product.options)
            values = itertools.product(*(product.options[name] for name in names))
            wanted += [(product.asin, dict(zip(names, each, strict=True))) for each in values]
    random.Random(233).shuffle(wanted)
    goals = make_goals(catalogue, draw_prices(catalogue, random.Random(0)), "synthetic", random.Random(0))
    assert [(goal.asin, goal.options) for goal in goals] == wanted
    assert goals.categories(5, 9) == [goal.category for goal in list(goals)[5:9]]
    for number in (-1, len(goals)):
        with pytest.raises(IndexError):
            goals[number]


def test_too_many_goals_of_one_kind_leave_the_other(files, monkeypatch):
    monkeypatch.setitem(make_goals.__globals__, "MOST_GOALS", 500)
    items, told, human = files
    item = next(item for item in items if item["asin"] in human)
    vast = {str(name): [{"value": str(value)} for value in range(10)] for name in range(100)}
    with pytest.warns(UserWarning, match="human instructions but are absent"):
        catalogue = build_catalogue([{**item, "customization_options": vast}], told, human, where="test")
    assert len(make_goals(catalogue, [1.0], "human", random.Random(0))) == 2
    with pytest.raises(InputError, match="more than 500 synthetic goals"):
        make_goals(catalogue, [1.0], "synthetic", random.Random(0))


def test_what_is_in_the_cache_is_not_read_again(tmp_path, files):
    directory = write(tmp_path / "data", files)
    with pytest.warns(UserWarning, match="1 products listed twice") as first:
        wanted = summary(load(directory))
    for path in directory.iterdir():
        state = path.stat()
        path.write_bytes(b"x" * state.st_size)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.warns(UserWarning) as again:
        assert summary(load(directory)) == wanted
    assert str(again[0].message) == str(first[0].message), "what was skipped is told with each load"


def test_changed_files_are_read_again_and_replace_the_store(tmp_path, cache, caplog):
    directory = small(tmp_path)
    assert len(load(directory).products) == 40
    small(tmp_path, 41)
    assert len(load(directory).products) == 41
    assert "the files have changed" in caplog.text
    (directory / "items_human_ins.json").unlink()
    assert len(load(directory).products) == 41
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 2


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("products.sqlite", b""),
        ("products.sqlite", None),
        ("weights.npy", b"\x93NUMPY"),
        ("asins.npy", None),
        ("store.json", b"{"),
        ("store.json", b"[]"),
        ("store.json", b'{"form": 0}'),
        ("store.json", None),
    ],
)
def test_a_damaged_store_is_built_again(tmp_path, cache, caplog, name, content):
    directory = small(tmp_path)
    wanted = summary(load(directory))
    assert caplog.text == ""
    [store] = (path for path in cache.iterdir() if path.is_dir())
    (store / name).unlink() if content is None else (store / name).write_bytes(content)
    assert summary(load(directory)) == wanted
    assert "built again" in caplog.text
    caplog.clear()
    assert summary(load(directory)) == wanted
    assert caplog.text == ""


def test_damage_that_shows_late_is_the_simulators_failure(tmp_path, cache):
    directory = small(tmp_path)
    load(directory)
    [database] = cache.glob("*/products.sqlite")
    whole = database.read_bytes()
    database.write_bytes(whole[:200] + b"\xff" * (len(whole) - 200))
    with pytest.raises(EnvironmentFailure, match=r"(?s)damaged.*delete"):
        Index(load(directory).products).search("desk lamp")
    with pytest.raises(EnvironmentFailure, match=str(database.parent)):
        list(load(directory).products)


def test_two_processes_build_one_store(tmp_path, cache, files):
    directory = write(tmp_path / "data", files)
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(directory)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert told[0] == told[1] != ""
    assert [path.name for path in cache.iterdir() if path.name.endswith(".tmp")] == []
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 1


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_killed_build_leaves_nothing_that_counts(tmp_path, cache, files):
    directory = write(tmp_path / "data", files)
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", SCRIPT, str(directory)])
    while process.poll() is None and not list(cache.glob(".*.tmp/*")):
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert list(cache.glob(".*.tmp"))
    assert len(load(directory).products) == COUNT
    assert list(cache.glob(".*.tmp")) == []


def test_a_build_that_fails_leaves_nothing(tmp_path, cache):
    directory = small(tmp_path)
    whole = (directory / "items_shuffle.json").read_bytes()
    for broken in (whole[:-20], whole + b"[]"):
        (directory / "items_shuffle.json").write_bytes(broken)
        with pytest.raises(InputError, match="cannot be read"):
            load(directory)
        assert [path.name for path in cache.iterdir() if path.is_dir()] == []
    (directory / "items_shuffle.json").write_bytes(whole)
    assert len(load(directory).products) == 40


@pytest.mark.parametrize("size", [*range(1, 12), 1000])
def test_values_are_cut_right_wherever_reading_pauses(tmp_path, monkeypatch, size):
    monkeypatch.setattr(catalogue_module, "CHUNK", size)
    path = tmp_path / "file.json"
    wanted = [12345, {"a": [1, "]"]}, "x, y", None, -1.5e10, [], True]
    path.write_text(json.dumps(wanted, indent=1))
    assert list(catalogue_module._read_items(path)) == wanted
    path.write_text(json.dumps({str(number): value for number, value in enumerate(wanted)}))
    assert [value for _, value in catalogue_module._read_pairs(path)] == wanted
    monkeypatch.setattr(catalogue_module, "LONGEST_VALUE", 30)
    path.write_text('["' + "x" * 3000)
    with pytest.raises(InputError, match="cannot be read"):
        list(catalogue_module._read_items(path))


@pytest.mark.parametrize("content", [b"[]", b'{"B1": {}, 3: {}}', b'{"B1"}', b'{"B1": {}', b'{"B1": {}} {}'])
def test_broken_instructions_are_named(tmp_path, content):
    directory = small(tmp_path)
    (directory / "items_ins_v2.json").write_bytes(content)
    with pytest.raises(InputError, match=r"items_ins_v2\.json"):
        load(directory)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-100], lambda data: data[:60] + bytes(99) + data[159:]]
)
def test_a_damaged_archive_is_named(tmp_path, damage):
    directory = write(tmp_path / "data", (*generated_files(40, seed=2), {}), packed=True)
    path = directory / "items_shuffle.json.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=r"items_shuffle\.json\.gz"):
        load(directory)


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ETO_CACHE", str(tmp_path / "file"))
    with pytest.raises(MissingRequirement, match="ETO_CACHE"):
        load(small(tmp_path))


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    """The limit on a file's size stands in for it: writing fails in the same way."""
    resource = pytest.importorskip("resource")
    directory = write(tmp_path / "data", (*generated_files(2000, seed=2), {}))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(MissingRequirement, match="free some space"):
            load(directory)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(load(directory).products) == 2000


def test_episodes_on_disk_are_those_in_memory(tmp_path):
    directory = write(tmp_path / "data", (*generated_files(400, seed=0), {}))
    suites = [load_suite("webshop", tagger="words", data=data) for data in (None, str(directory))]
    for task in suites[0].tasks("train")[::300]:
        pages = []
        for suite in suites:
            environment = suite.environment()
            actions = suite.expert_actions(task, environment)
            pages.append([environment.reset(task), *map(environment.step, actions or ["click[x]"])])
        assert pages[0] == pages[1]
    shutil.rmtree(tmp_path / "cache")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert suites[1].environment().reset(task) == pages[0][0], "an open store outlives its directory"
