"""Our environments served over the OpenEnv protocol, over a real socket: played by our client and by hand."""

from __future__ import annotations

import json
import time
from contextlib import closing, contextmanager

import httpx2
import pytest
from counting import Counting
from playing import how
from test_agentgym import serving
from websockets.sync.client import connect

from eto.engines.scripted import scripted_actor
from eto.environments import load_suite
from eto.environments.remote.serving_openenv import build_app
from eto.environments.toolkit.conformance import check_environment
from eto.rollout.rollouts import rollouts


@contextmanager
def served(suite, split="train", **options):
    app = build_app(suite, suite.tasks(split), split, **options)
    with serving(app) as address:
        yield address, app.state.sessions


@pytest.fixture(scope="module")
def counting():
    with served(Counting()) as (address, sessions):
        yield address
        until_open(sessions, 0)


def until_open(sessions, count: int) -> None:
    until = time.monotonic() + 10
    while len(sessions) != count:
        assert time.monotonic() < until, f"{len(sessions)} sessions are open, not {count}"
        time.sleep(0.01)


def client(address: str, **options):
    return load_suite(
        "openenv", address=address, **({"train": [0, 3], "dev": [3, 3], "test": [3, 3]} | options)
    )


class Hand:
    """A connection, by hand."""

    def __init__(self, address: str) -> None:
        self._connection = connect(f"ws{address[4:]}/ws", proxy=None)
        self._socket = self._connection.__enter__()

    def say(self, text: str | bytes) -> dict:
        self._socket.send(text)
        return self.hear()

    def hear(self) -> dict:
        return json.loads(self._socket.recv(timeout=20))

    def ask(self, kind: str, **data) -> dict:
        return self.say(json.dumps({"type": kind, "data": data}))

    def reset(self, **data) -> dict:
        return self.ask("reset", **data)["data"]

    def step(self, message: str) -> dict:
        return self.ask("step", message=message)["data"]

    def __enter__(self) -> Hand:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.__exit__(None, None, None)


NONSENSE = ["", "\ud800 half a pair\x00", "Thought: 😀\nAction: search["]


@pytest.mark.parametrize(
    "make", [Counting, lambda: load_suite("webshop", products=40)], ids=["counting", "webshop"]
)
def test_an_episode_is_the_same_through_the_server(make):
    suite = make()
    with served(suite) as (address, sessions):
        remote = client(address)
        for number, task in enumerate(suite.tasks("train")[:3]):
            with closing(suite.environment()) as here, closing(remote.environment()) as there:
                assert there.reset(remote.tasks("train")[number]) == here.reset(task)
                actions = NONSENSE + list(suite.expert_actions(task, suite.environment()) or ["up", "up"])
                for action in actions[: suite.max_turns(task)]:
                    own, sent = here.step(action.encode("utf-8", "replace").decode()), there.step(action)
                    assert sent.observation == own.observation
                    assert sent.terminated == own.terminated
                    assert sent.reward == (own.reward if own.terminated else 0.0)
                    if own.terminated:
                        break
                assert own.terminated and sent.success == own.success
        until_open(sessions, 0)


def test_it_keeps_the_contract(counting):
    remote = client(counting)
    assert check_environment(remote, remote.tasks("train")) == []


def test_episodes_are_played_in_workers(counting):
    remote = client(counting)
    policy = scripted_actor(lambda messages: "up")
    played = rollouts(policy, remote, remote.tasks("train"), **how(slots=3, workers=2))
    assert [trajectory.success for trajectory in played] == [True] * 3


def test_a_task_is_chosen_by_seed_index_or_id(counting):
    with Hand(counting) as hand:
        for chosen in ({"seed": 1}, {"index": 1, "split": "train"}, {"task_id": "counting/2", "seed": 0}):
            begun = hand.reset(**chosen, others="are ignored")
            told = {"task_id": "counting/2", "kind": "up", "split": "train", "index": 1, "seed": 1}
            assert begun["metadata"] == begun["observation"]["metadata"] == told | {"max_turns": 10}
            assert begun["observation"]["text"].startswith("Count to 2.")
            prompt = [("system", "Count."), ("user", begun["observation"]["text"])]
            assert [(each["role"], each["content"]) for each in begun["observation"]["messages"]] == prompt
            assert (begun["reward"], begun["done"]) == (None, False)


def test_without_a_choice_tasks_take_turns():
    with served(Counting()) as (address, _), Hand(address) as one, Hand(address) as two:
        ids = [hand.reset()["metadata"]["task_id"] for hand in (one, two, two, one)]
        assert ids == ["counting/1", "counting/2", "counting/3", "counting/1"]


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"seed": 3}, "seed 3: split train has 3 tasks, from 0 to 2"),
        ({"seed": -1}, "seed -1: split train"),
        ({"index": 10**30}, "index 1000000000000000000000000000000: split train"),
        ({"seed": "x"}, "seed: Input should be a valid integer"),
        ({"seed": 0, "split": "dev"}, "split 'dev': this server serves train"),
        (
            {"task_id": "counting/9\ud800"},
            "task_id 'counting/9\N{REPLACEMENT CHARACTER}': no task of split train",
        ),
        ({"episode_id": "e" * 256}, "episode_id: Value should have at most 255"),
    ],
)
def test_a_task_that_is_not_there(counting, chosen, words):
    with Hand(counting) as hand:
        reply = hand.ask("reset", **chosen)
        assert (reply["type"], reply["data"]["code"]) == ("error", "VALIDATION_ERROR")
        assert words in reply["data"]["message"]
        assert reply["data"]["errors"][0]["loc"][0] in chosen
        assert "Count to 3." in hand.reset(seed=2)["observation"]["text"]


def test_the_reward_is_paid_once_at_the_end(counting):
    with Hand(counting) as hand:
        hand.reset(seed=1, episode_id="mine")
        first = hand.step("up")
        assert (first["reward"], first["done"]) == (None, False)
        assert (first["metadata"]["reward"], first["metadata"]["success"]) == (0.5, False)
        assert hand.ask("state")["data"] == {
            "episode_id": "mine",
            "step_count": 1,
            "task_id": "counting/2",
            "reward": 0.5,
            "done": False,
        }
        last = hand.step("up")
        assert (last["observation"]["text"], last["reward"], last["done"]) == ("at 2", 1.0, True)
        expected = {"task_id": "counting/2", "success": True, "score": 1.0, "reward": 1.0}
        expected |= {"terminated": True, "truncated": False, "afresh": False}
        assert last["metadata"] == last["observation"]["metadata"] == expected
        after = hand.step("up")
        assert (after["observation"]["text"], after["reward"], after["done"]) == (
            "The episode has ended.",
            None,
            True,
        )
        assert after["metadata"] == expected
        assert hand.ask("state")["data"]["step_count"] == 2


def test_the_cap_of_turns_ends_and_pays(counting):
    with Hand(counting) as hand:
        hand.reset(seed=2)
        hand.step("up")
        steps = [hand.step("down") for _ in range(9)]
        assert [step["done"] for step in steps] == [False] * 8 + [True]
        assert steps[-1]["reward"] == pytest.approx(1 / 3)
        told = steps[-1]["metadata"]
        assert (told["terminated"], told["truncated"], told["success"]) == (False, True, False)


@pytest.mark.parametrize(
    ("said", "code", "words"),
    [
        ("up", "INVALID_JSON", "Invalid JSON: Expecting value"),
        ("[" * 100_000, "INVALID_JSON", "Invalid JSON"),
        ("[]", "UNKNOWN_TYPE", "there are reset, step, state and close"),
        ('{"type": "mcp", "data": {}}', "UNKNOWN_TYPE", "'mcp'"),
        ('{"type": ["\\ud800"]}', "UNKNOWN_TYPE", "there are"),
        ('{"type": "step", "data": 3}', "VALIDATION_ERROR", "data: Input should be a valid dictionary"),
        ('{"type": "step", "data": {}}', "VALIDATION_ERROR", "message: Field required"),
        (
            '{"type": "step", "data": {"message": 3}}',
            "VALIDATION_ERROR",
            "message: Input should be a valid string",
        ),
        ('{"type": "step", "data": {"message": "up", "\\ud800": 1}}', "VALIDATION_ERROR", "unicode"),
        ('{"type": "step", "data": {"message": "up"}, "now": 1}', "VALIDATION_ERROR", "now: Extra inputs"),
        (b'{"type": "step", "data": {"message": 3, "a\xff": 1}}', "VALIDATION_ERROR", "not permitted"),
    ],
)
def test_what_cannot_be_read_is_answered_and_changes_nothing(counting, said, code, words):
    with Hand(counting) as hand:
        hand.reset(seed=1)
        hand.step("up")
        reply = hand.say(said)
        assert (reply["type"], reply["data"]["code"]) == ("error", code)
        assert words in reply["data"]["message"]
        assert hand.step("up")["reward"] == 1.0


def test_a_step_needs_an_episode(counting):
    with Hand(counting) as hand:
        reply = hand.ask("step", message="up")["data"]
        assert reply["code"] == "EXECUTION_ERROR" and "reset before the first step" in reply["message"]


def test_what_is_told_over_http(counting):
    with httpx2.Client(base_url=counting) as http:
        assert http.get("/health").json() == {"status": "healthy"}
        told = http.get("/metadata").json()
        assert (told["name"], told["description"]) == (
            "counting",
            "3 tasks of split train, by seeds from 0 to 2",
        )
        schema = http.get("/schema").json()
        assert schema["action"]["required"] == ["message"]
        assert {"text", "messages", "reward"} <= set(schema["reset_observation"]["properties"])
        assert http.get("/state").json()["step_count"] == 0
        tools = http.post("/mcp", json={"jsonrpc": "2.0", "method": "tools/list", "id": 1}).json()
        assert (tools["jsonrpc"], tools["error"]["code"]) == ("2.0", -32601)
        begun = http.post("/reset", json={"seed": 2}).json()
        assert begun["observation"]["text"].startswith("Count to 3.") and not begun["done"]
        assert http.post("/reset").status_code == 200
        wrong = http.post("/reset", json={"seed": 3})
        assert wrong.status_code == 422 and "from 0 to 2" in wrong.json()["detail"][0]["msg"]
        assert http.post("/step", json={"action": {"message": "up"}}).status_code == 409
        wrong = http.post(
            "/step", content=b'{"action": {"\\ud800": 1}}', headers={"Content-Type": "application/json"}
        )
        assert wrong.status_code == 422 and "valid string" in wrong.json()["detail"][0]["msg"]


def test_tasks_are_told_over_http(counting):
    with httpx2.Client(base_url=counting) as http:
        assert http.get("/list_environments").json() == ["counting"]
        assert http.get("/Counting/splits").json() == [{"name": "train", "type": "train"}]
        assert http.get("/chess/splits").status_code == 404
        assert http.post("/counting/num_tasks", json={"split": "train"}).json() == {"num_tasks": 3}
        assert http.post("/counting/num_tasks", json={"split": "dev"}).status_code == 422
        second = {"task_id": "counting/2", "kind": "up", "split": "train", "index": 1, "seed": 1}
        assert http.post("/counting/task", json={"split": "train", "index": 1}).json() == {"task": second}
        assert http.post("/counting/task", json={"split": "train", "index": 3}).status_code == 422
        every = http.post("/counting/tasks", json={"split": "train"}).json()
        assert (len(every["tasks"]), every["tasks"][1], every["env_name"]) == (3, second, "counting")
        some = http.post("/counting/task_range", json={"split": "train", "start": 1}).json()["tasks"]
        assert [task["index"] for task in some] == [1, 2]
