"""WebShop over generated shops: pages, actions, reward, expert, and bad files."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys

import pytest

from eto.environments import load_suite
from eto.environments.toolkit.conformance import check_environment
from eto.environments.webshop.catalogue import build_catalogue, find_files, load_catalogue
from eto.environments.webshop.generated import generated_files
from eto.environments.webshop.goals import NO_LIMIT, draw_prices, make_goals
from eto.environments.webshop.reward import purchase_reward
from eto.errors import InputError, MissingRequirement

SHIRT = {
    "asin": "B000000001",
    "name": "Plain Cotton Shirt",
    "full_description": "A shirt.",
    "small_description": ["Cotton", "Washable"],
    "pricing": "$12.5 to $1,220.00",
    "customization_options": {"Size": [{"value": "S/M "}, {"value": "Large"}], "Fit": None},
    "product_category": "Clothing \u203a Shirts",
    "category": "fashion",
    "query": " Shirts ",
}
TOLD = {"attributes": ["cotton"], "instruction": "Find me a shirt", "instruction_attributes": ["cotton"]}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("ETO_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def suite():
    return load_suite("webshop", tagger="words")


def write(directory, items, instructions, name="items_shuffle_1000.json"):
    (directory / name).write_text(json.dumps(items), encoding="utf-8")
    (directory / "items_ins_v2_1000.json").write_text(json.dumps(instructions), encoding="utf-8")


# -- the shop -----------------------------------------------------------------------------


def test_it_conforms(suite):
    tasks = suite.tasks("train")
    experts = [task for task in tasks[::40] if suite.expert_actions(task, suite.environment())]
    solved = []
    for task in experts[:12]:
        environment = suite.environment()
        actions = suite.expert_actions(task, environment)
        environment.reset(task)
        if [environment.step(action) for action in actions][-1].success:
            solved.append(task)
    assert len(solved) >= 10
    assert check_environment(suite, solved) == []


def test_nearly_all_experts_get_the_full_reward(suite):
    environment, rewards = suite.environment(), []
    tasks = suite.tasks("train")[::10]
    for task in tasks:
        actions = suite.expert_actions(task, environment)
        assert actions is None or len(actions) <= suite.max_turns(task) + 4
        if actions:
            environment.reset(task)
            rewards.append([environment.step(action) for action in actions][-1].reward)
    assert len(rewards) > 0.9 * len(tasks)
    assert sum(reward == 1 for reward in rewards) > 0.9 * len(rewards)


def test_pages_and_actions(suite):
    environment = suite.environment()
    task = suite.tasks("train")[0]
    first = environment.reset(task)
    assert first.startswith("WebShop [SEP] Instruction: [SEP] Find me ")
    assert first.endswith(" dollars [SEP] Search")
    assert environment.step("click[buy now]").observation == first, "not offered: nothing changes"
    assert environment.step("buy it").observation == first
    results = environment.step("Thought: I look.\nAction: search[desk lamp]").observation
    assert "[SEP] Back to Search [SEP] Page 1 (Total results: 50) [SEP] Next > [SEP] G" in results
    assert environment.step("search[desk lamp]").observation == results, "searched anew from here as well"
    second = environment.step("click[Next >]").observation
    assert "Page 2 (Total results: 50) [SEP] < Prev [SEP] Next >" in second
    assert environment.step("click[< prev]").observation == results
    asin = environment.clickables()[2]
    item = environment.step(f"click[{asin.upper()}]").observation
    assert item.endswith("Rating: N.A. [SEP] Description [SEP] Features [SEP] Reviews [SEP] Buy Now")
    assert "The " in environment.step("click[description]").observation
    assert environment.step("click[< prev]").observation == item
    assert environment.step("click[back to search]").observation == first
    assert environment.step("search[]").observation == first
    assert "(Total results: 0)" in environment.step("search[xyzzy]").observation


def test_a_purchase_ends_the_episode_with_its_reward(suite):
    environment = suite.environment()
    task = suite.tasks("train")[3]
    actions = suite.expert_actions(task, environment)
    environment.reset(task)
    steps = [environment.step(action) for action in actions]
    assert [step.reward for step in steps[:-1]] == [0.0] * (len(steps) - 1)
    last = steps[-1]
    assert last.terminated and last.success
    assert last.reward == last.score == environment.reward.total == 1.0
    assert "Your score (min 0.0, max 1.0) [SEP] 1.0" in last.observation
    assert environment.step("click[back to search]").terminated


def test_splits_are_disjoint_and_rebuilt_alike(suite):
    for split in ("official", "tenths"):
        cut = load_suite("webshop", tagger="words", split=split, products=800)
        numbers = [task.payload["goal"] for name in cut.splits for task in cut.tasks(name)]
        assert sorted(numbers) == list(range(len(cut._goals)))
        if split == "official":
            assert (len(cut.tasks("test")), len(cut.tasks("dev"))) == (500, 1000)
    script = (
        "from eto.environments import load_suite; import hashlib;"
        "s = load_suite('webshop', tagger='words'); e = s.environment();"
        "print(hashlib.sha256(''.join(e.reset(t) for t in s.tasks('dev')).encode()).hexdigest())"
    )
    runs = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert runs[0] == runs[1]


def test_react_experts_think_and_score_alike(suite):
    react = load_suite("webshop", tagger="words", style="react", prompt="long")
    task = react.tasks("train")[5]
    environment = react.environment()
    actions = react.expert_actions(task, environment)
    assert all(action.startswith("Thought: ") and "\nAction: " in action for action in actions)
    environment.reset(task)
    with_thoughts = [environment.step(action) for action in actions][-1]
    plain = suite.environment()
    bare = suite.expert_actions(task, plain)
    plain.reset(task)
    assert [plain.step(action) for action in bare][-1] == with_thoughts
    assert "Thought:" in react.messages(task, "page")[0].content


# -- files --------------------------------------------------------------------------------


def test_products_are_read_as_the_original_reads_them(tmp_path):
    write(tmp_path, [SHIRT], {SHIRT["asin"]: TOLD})
    [shirt] = load_catalogue(find_files(tmp_path)).products
    assert shirt.prices == (12.5, 1220.0)
    assert shirt.price_tag == "$12.5 to $1220.0"
    assert shirt.options == {"size": ("s | m", "large")}
    assert shirt.query == "shirts"
    catalogue = build_catalogue([SHIRT], {SHIRT["asin"]: TOLD}, {}, where="test")
    prices = draw_prices(catalogue, random.Random(1))
    assert 12.5 <= prices[0] <= 1220
    goals = make_goals(catalogue, [12.5], "synthetic", random.Random(1))
    assert {goal.options["size"] for goal in goals} == {"s | m", "large"}
    assert all(goal.price_upper in (30, 40, 50) for goal in goals)
    [expensive, _] = make_goals(catalogue, [985.0], "synthetic", random.Random(1))
    assert expensive.price_upper == NO_LIMIT and "price" not in expensive.instruction


def test_human_goals_name_option_values_alone(tmp_path):
    write(tmp_path, [{**SHIRT, "pricing": "$12.5"}], {SHIRT["asin"]: TOLD})
    entry = {
        "instruction": "i want a shirt.",
        "instruction_attributes": ["cotton"],
        "instruction_options": ["large"],
    }
    human = {
        SHIRT["asin"]: [entry, {"instruction": "x", "instruction_attributes": []}],
        "B000000009": [entry],
    }
    (tmp_path / "items_human_ins.json").write_text(json.dumps(human), encoding="utf-8")
    with pytest.warns(UserWarning, match="1 products that have human instructions but are absent"):
        suite = load_suite("webshop", data=str(tmp_path), goals="human", tagger="words", split="official")
    [task] = suite.tasks("test")
    environment = suite.environment()
    assert "i want a shirt, and price lower than" in environment.reset(task)
    for action in suite.expert_actions(task, suite.environment()):
        step = environment.step(action)
    assert step.reward == 1.0


def test_unusable_products_are_skipped_and_counted(tmp_path):
    odd = [
        SHIRT,
        dict(SHIRT),
        {**SHIRT, "asin": "nan"},
        {**SHIRT, "asin": "B0000000000001"},
        {**SHIRT, "asin": "B000000002", "pricing": ""},
        {
            **SHIRT,
            "asin": "B000000003",
            "customization_options": {"Size": "large", "Color": [3, {"value": "red"}]},
        },
        {**SHIRT, "asin": "B000000004", "name": None},
        "no product",
    ]
    write(tmp_path, odd, {})
    with pytest.warns(UserWarning) as told:
        catalogue = load_catalogue(find_files(tmp_path))
    assert [product.asin for product in catalogue.products] == ["B000000001", "B000000002", "B000000003"]
    assert catalogue.skipped == {
        "products without a usable asin": 3,
        "products listed twice": 1,
        "products without a price, taken as 100 dollars": 1,
        "options that are not a list": 1,
        "option values that are not text": 1,
        "products without a name": 1,
    }
    assert "1 products listed twice" in str(told[0].message)
    assert catalogue.by_asin["B000000002"].price_tag == "$100.0"
    assert catalogue.by_asin["B000000003"].options == {"color": ("red",)}


def test_a_long_list_is_read_in_pieces_and_gzipped(tmp_path, monkeypatch):
    monkeypatch.setattr("eto.environments.webshop.catalogue.CHUNK", 100)
    items, instructions = generated_files(50, 3)
    with gzip.open(tmp_path / "items_shuffle.json.gz", "wt", encoding="utf-8") as stream:
        json.dump(items, stream, indent=1)
    with gzip.open(tmp_path / "items_ins_v2.json.gz", "wt", encoding="utf-8") as stream:
        json.dump(instructions, stream)
    products = load_catalogue(find_files(tmp_path)).products
    assert [product.asin for product in products] == [item["asin"] for item in items]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'[{"asin": "B1", "name": "caf\xe9"}]', "cannot be read"),
        (b'[{"asin": "B1"', "cannot be read"),
        (b"{}", "not a JSON list"),
        (b"", "not a JSON list"),
        (b"[]", "no usable product"),
    ],
)
def test_broken_files_are_named(tmp_path, content, words):
    write(tmp_path, [SHIRT], {})
    (tmp_path / "items_shuffle_1000.json").write_bytes(content)
    with pytest.raises(InputError, match=words) as error:
        load_suite("webshop", data=str(tmp_path))
    assert "items_shuffle_1000.json" in str(error.value)


def test_wrong_options_say_what_would_do(tmp_path):
    for options, words in [
        ({"data": str(tmp_path)}, "no items_shuffle"),
        ({"goals": "human"}, "no human goals"),
        ({"goals": "made up"}, "unknown choice"),
        ({"tagger": "best"}, "unknown tagger"),
        ({"success": 0.0}, "not a reward"),
        ({"products": 1}, "too small"),
    ]:
        with pytest.raises(InputError, match=words):
            load_suite("webshop", **options)
    with pytest.raises(InputError, match="unknown split"):
        load_suite("webshop", tagger="words").tasks("all")
    if not pytest.importorskip("importlib.util").find_spec("en_core_web_lg"):
        with pytest.raises(MissingRequirement, match="en_core_web_lg"):
            load_suite("webshop", tagger="en_core_web_lg")


def test_an_instruction_without_attributes_is_scored_by_the_rest():
    catalogue = build_catalogue([SHIRT], {SHIRT["asin"]: {**TOLD, "instruction_attributes": []}}, {}, "test")
    goal = make_goals(catalogue, [12.5], "synthetic", random.Random(0))[0]
    product = catalogue.by_asin[SHIRT["asin"]]
    reward = purchase_reward(product, goal, 12.5, dict(goal.options), str.split)
    assert (reward.r_att, reward.total) == (None, 1.0)
