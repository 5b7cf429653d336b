"""The reference's pair rules, against what the reference itself made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eto.data.formats import read_pairs
from eto.data.reference_pairs import (
    pairs_from_reference,
    read_reference_items,
    recognise,
    reference_pairs,
    write_reference_pairs,
)
from eto.errors import InputError

CASES = Path(__file__).parents[2].parent / "shared/cases/pairs"


@pytest.mark.skipif(not CASES.is_dir(), reason="the reference's pair cases are not beside the project")
@pytest.mark.parametrize("environment", ["webshop", "sciworld", "alfworld"])
def test_the_references_pairs_are_reproduced(environment: str, tmp_path: Path) -> None:
    folder = CASES / environment
    expert = read_reference_items(folder / "expert.json")
    explored = read_reference_items(folder / "explored.json")
    expected = json.loads((folder / "pairs.json").read_text())
    assert recognise(expert) == environment
    pairs = reference_pairs(expert, explored)
    assert pairs == expected
    assert reference_pairs(expert, explored, environment) == expected  # type: ignore[arg-type]
    write_reference_pairs(tmp_path / "pairs.json", pairs)
    assert json.loads((tmp_path / "pairs.json").read_text()) == expected
    assert read_pairs(tmp_path / "pairs.json") == pairs_from_reference(pairs)


def said(*texts: str) -> list[dict[str, str]]:
    """Messages in turn, the human first; `!` before a text makes the agent say it."""
    return [
        {"from": "gpt", "value": text[1:]} if text.startswith("!") else {"from": "human", "value": text}
        for text in texts
    ]


def expert(key: int, *turns: str, **fields: object) -> dict:
    return {"id": key, "conversations": said("inst", "!OK", f"task {key}", *turns), **fields}


def explored(key: int, reward: object, *turns: str, task: str | None = None, error: str = "") -> dict:
    return {
        "id": key,
        "meta": {"reward": reward, "error": error},
        "conversations": said("inst", "!OK", "example", "!act", task or f"task {key}", *turns),
        "icl_messages": 4,
    }


LONG = tuple(text for n in range(20) for text in (f"!try {n}", f"seen {n}"))


def test_webshop_by_hand() -> None:
    experts = [expert(n, "!search", "page", "!buy", reward=0.75) for n in range(8)]
    rollouts = [
        explored(0, 0.5, *LONG),
        explored(1, 1.0, "!find", "page", "!buy", "done", task="its own task"),
        explored(2, 0.75, "!same"),
        explored(3, None, "!lost"),
        explored(4, 0.0),
        explored(5, 0.9, "!first"),
        explored(5, 0.1, "!second"),
        explored(9, 0.0, "!alone"),
    ]
    pairs = reference_pairs(experts, rollouts)
    assert [pair["id"] for pair in pairs] == ["0", "1", "5"]
    lost, won, replaced = pairs
    assert lost["prompt"] == said("inst", "!OK", "task 0")
    assert lost["chosen"] == said("!search", "page", "!buy")
    # Three expert messages and five rounds more: 13 messages, as the task counts on both sides.
    assert lost["rejected"] == said(*LONG[:13])
    assert won["prompt"][2]["value"] == "its own task"
    assert (won["chosen"], won["rejected"]) == (said("!find", "page", "!buy"), lost["chosen"])
    assert replaced["rejected"] == said("!second")


def test_a_side_that_does_not_end_on_the_agent_gives_no_pair() -> None:
    assert reference_pairs([expert(0, "!a", "seen", reward=1.0)], [explored(0, 0.0, "!b")]) == []


def test_sciworld_by_hand() -> None:
    experts = [expert(1, "!go", "seen", "!focus"), expert(10, "!go"), expert(9, "!go")]
    rollouts = [
        explored(1, 0.4, "!sit", task="Task Description:\n task 1 "),
        explored(10, 0.2, "!sit"),
        explored(9, 1, "!a"),
    ]
    pairs = reference_pairs(experts, rollouts)
    assert [pair["id"] for pair in pairs] == ["1", "10"]
    assert pairs[0]["prompt"] == said("inst", "!OK", "task 1")
    # A reward above the expert's constant 1 cannot come from the simulator, yet the rule is the same:
    # the prompt is the rollout's, freed of its heading.
    (won,) = reference_pairs(experts[:1], [explored(1, 1.5, "!x", task="Task Description:\n task 1 ")])
    assert won["prompt"][2]["value"] == "task 1"


def test_alfworld_by_hand() -> None:
    experts = [expert(n, "!go", game_file=f"train/pick/trial_{n}") for n in range(4)]

    def rollout(n: int, reward: object, *turns: str) -> dict:
        return explored(77, reward, *turns, error=f"data/train/pick/trial_{n}/game.tw-pddl")

    rollouts = [rollout(0, False, *LONG), rollout(1, None, "!lost"), rollout(2, True, "!won")]
    pairs = reference_pairs(experts, [*rollouts, explored(3, 0.0, "!no game")])
    assert [pair["id"] for pair in pairs] == ["trial_0", "trial_1"]
    # No cap here, and a rollout that the server killed counts as the agent's failure.
    assert pairs[0]["rejected"] == said(*LONG[:-1])


def test_the_usual_example_length_holds_where_none_is_stated() -> None:
    rollout = explored(0, 0.0)
    del rollout["icl_messages"]
    rollout["conversations"] = said(*["inst", "!OK"] * 5, "task 0", "!act")
    (pair,) = reference_pairs([expert(0, "!go", reward=1.0)], [rollout])
    assert pair["rejected"] == said("!act")


def test_reference_pairs_can_be_trained_on() -> None:
    pairs = reference_pairs([expert(0, "!a", "seen", "!b", reward=1.0)], [explored(0, 0.0, "!a", "seen")])
    (one,) = pairs_from_reference(pairs)
    assert [each.role for each in one.chosen.messages] == ["user", "assistant", "user"]
    assert (one.task.id, one.chosen.actions, one.rejected.actions) == ("0", ("a", "b"), ("a",))
    # The ending gpt message has no answer, the expert's first does: they part at once.
    assert one.shared_turns == 0


@pytest.mark.parametrize(
    ("experts", "rollouts", "words"),
    [
        ([{"id": 0}], [], ["expert item [0]", "'conversations'"]),
        ([{"id": 0, "conversations": said("inst", "!OK")}], [], ["expert item [0]", "no task"]),
        ([expert(0, "!a", reward="high")], [], ["expert item [0]", "'reward'"]),
        (
            [expert(0, "!a", reward=1.0), expert(1, "!a")],
            [],
            ["expert item [1]", "'reward'", "missing"],
        ),
        ([expert(0, "!a")], [{"id": 0, "conversations": []}], ["explored item [0]", "'meta'"]),
        ([expert(0, "!a")], [explored(0, "high")], ["explored item [0]", "'reward'"]),
    ],
)
def test_a_bad_item_is_named(experts: list, rollouts: list, words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        reference_pairs(experts, rollouts)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_an_unknown_environment_is_refused() -> None:
    with pytest.raises(InputError, match="sciworld"):
        reference_pairs([], [], "chess")  # type: ignore[arg-type]


def test_a_file_without_conversations_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"id": 1, "conversations": [{"role": "user"}]}]')
    with pytest.raises(InputError, match=r"item \[0\], conversations\[0\]"):
        read_reference_items(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"from": "gpt", "value": None}, "'value'"),
        ({"from": "gpt", "value": "a", "weight": 0.5}, "'weight'"),
        ({"from": "gpt", "value": "a", "mask": 1}, "'mask'"),
        ({"from": "cat", "value": "a"}, "cat"),
        ({"from": "gpt", "value": "a", "tool_calls": [{"name": 5}]}, "'name'"),
    ],
)
def test_what_readers_refuse_is_refused(tmp_path: Path, message: dict, words: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"id": 1, "conversations": [*said("a"), message]}]))
    with pytest.raises(InputError, match=words):
        read_reference_items(tmp_path / "a.json")


@pytest.mark.parametrize("reward", [float("nan"), float("inf"), "0.5", []])
def test_rewards_of_rollouts_are_checked(reward: object) -> None:
    with pytest.raises(InputError, match="reward"):
        reference_pairs([expert(1, "!act")], [explored(1, reward, "!try")])


def test_a_turn_without_loss_keeps_its_mark() -> None:
    item = expert(1, "!act", "seen", "!done")
    item["conversations"][3]["loss"] = False
    [pair] = pairs_from_reference(reference_pairs([item], [explored(1, 0.0, "!try")], "sciworld"))
    assert [turn.loss for turn in pair.chosen.turns] == [False, True]
