"""How an agent acts, whatever it earns: signs that training is breaking it, which no loss shows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from eto.types import Trajectory, Turn


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Shares of the actions of some episodes."""

    repeated: float
    """Share of actions that the agent took before in the same episode."""
    malformed: float
    """Share of actions that are empty, cut off before their end-of-turn token, or broken text."""
    verb: str
    """The first word that most actions begin with."""
    verb_share: float
    """Share of actions that begin with it."""
    action_entropy: float
    """Of the distribution over distinct actions, in nats: 0 where all are one action."""

    @property
    def figures(self) -> dict[str, float]:
        """Its numbers, for logs and bounds."""
        return {
            "repeated": self.repeated,
            "malformed": self.malformed,
            "verb_share": self.verb_share,
            "action_entropy": self.action_entropy,
        }


def behaviour(trajectories: Sequence[Trajectory], stops: Collection[int] = ()) -> Behaviour | None:
    """Behaviour over all actions of `trajectories`, each with weight 1; None where there are none.

    `stops`: the ids that end an action; without them none counts as cut off.
    """
    actions: Counter[str] = Counter()
    verbs: Counter[str] = Counter()
    repeated = malformed = 0
    for trajectory in trajectories:
        seen = set()
        for turn in trajectory.turns:
            repeated += turn.said in seen
            seen.add(turn.said)
            malformed += _malformed(turn, stops)
            action = _action(turn)
            actions[action] += 1
            verbs[_verb(action)] += 1
    total = actions.total()
    if not total:
        return None
    verb, count = min(verbs.items(), key=lambda item: (-item[1], item[0]))
    entropy = math.log(total) - sum(n * math.log(n) for n in actions.values()) / total
    return Behaviour(repeated / total, malformed / total, verb, count / total, max(0.0, entropy))


def _action(turn: Turn) -> str:
    """What is done: the calls, or the text after its last `Action:`, without thoughts."""
    if turn.tool_calls:
        return " ".join(f"{call.name}({call.arguments})" for call in turn.tool_calls)
    return " ".join(turn.action.rpartition("Action:")[2].split())


def _verb(action: str) -> str:
    """The first word, up to a space or a bracket: `search` of `search[red mug]`."""
    words = action.replace("[", " ").replace("(", " ").split()
    return words[0].lower() if words else ""


def _malformed(turn: Turn, stops: Collection[int]) -> bool:
    action = _action(turn)
    cut_off = bool(stops and turn.action_ids and turn.action_ids[-1] not in stops)
    broken = any(letter == "\ufffd" or not (letter.isprintable() or letter.isspace()) for letter in action)
    return not action or cut_off or broken
