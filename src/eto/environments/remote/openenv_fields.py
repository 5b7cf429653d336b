"""Which fields of an OpenEnv server's actions and observations carry text, by the JSON schemas it tells."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eto.errors import EnvironmentFailure, InputError

FRAME = ("metadata", "reward", "done")
"""Fields of every action or observation."""


@dataclass(frozen=True, slots=True)
class Fields:
    """The action's field for the agent's text, and the observation's fields that are shown."""

    action: str
    observation: tuple[str, ...]

    def show(self, answer: Mapping[str, Any]) -> str:
        """An answer's observation as text: a line for each field, what is not text as JSON.

        Raises `EnvironmentFailure` where it has none of the fields.
        """
        observation = answer.get("observation")
        if not isinstance(observation, dict) or not any(name in observation for name in self.observation):
            raise EnvironmentFailure(f"no {' or '.join(self.observation)} in {answer!r}")
        values = [observation[name] for name in self.observation if observation.get(name) is not None]
        return "\n".join(
            value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in values
        )

    def refusal(self, reply: Mapping[str, Any]) -> str | None:
        """What to tell an agent whose text the action's field does not admit; None for other errors."""
        errors = reply.get("errors")
        if reply.get("code") != "VALIDATION_ERROR" or not isinstance(errors, list) or not errors:
            return None
        if any(list(error.get("loc", ()))[:1] != [self.action] for error in errors):
            return None
        return "Invalid action: " + "; ".join(str(error.get("msg")) for error in errors)


def find_fields(schema: Mapping[str, Any] | None, options: Mapping[str, Any], where: str) -> Fields:
    """The fields that `options` name, or the only ones that are text.

    schema: of `/schema`; None where the server tells none, and the options must name them.

    Raises `InputError` that names the fields there are.
    """
    action, shown = options["action_field"], tuple(options["observation_fields"] or ())
    if schema is None:
        if action and shown:
            return Fields(action, shown)
        hint = "name them: openenv.action_field and openenv.observation_fields"
        raise InputError("it does not tell the fields of its actions", where=where, hint=hint)
    actions = _properties(schema["action"])
    needed = [name for name in schema["action"].get("required", ()) if name in actions]
    if not action:
        texts = _texts(actions)
        action = _only([name for name in texts if name in needed] or texts, "action_field", actions, where)
    given = {action, *(options["fixed"] or {})}
    for name in given - set(actions):
        option = "action_field" if name == action else "fixed"
        raise InputError(
            f"its actions have no field {name!r}", where=where, hint=_hint(f"openenv.{option}", actions)
        )
    if missing := [name for name in needed if name not in given]:
        problem, hint = f"its actions need {missing[0]!r} too", "give it in openenv.fixed"
        raise InputError(problem, where=where, hint=hint)
    observations = _properties(schema.get("observation")) | _properties(schema.get("reset_observation"))
    for name in shown:
        if name not in observations:
            hint = _hint("openenv.observation_fields", observations)
            raise InputError(f"its observations have no field {name!r}", where=where, hint=hint)
    return Fields(action, shown or (_only(_texts(observations), "observation_fields", observations, where),))


def _properties(schema: Any) -> dict[str, Any]:
    properties = schema.get("properties") if isinstance(schema, dict) else None
    return {name: declaration for name, declaration in (properties or {}).items() if name not in FRAME}


def _texts(properties: Mapping[str, Any]) -> list[str]:
    """Names of those that are text, or may be."""
    kinds = {name: [kind, *kind.get("anyOf", ())] for name, kind in properties.items()}
    return [name for name, ways in kinds.items() if any(way.get("type") == "string" for way in ways)]


def _only(texts: list[str], option: str, properties: Mapping[str, Any], where: str) -> str:
    if len(texts) == 1:
        return texts[0]
    what = "actions" if option == "action_field" else "observations"
    problem = f"its {what} have {len(texts) or 'no'} text fields"
    raise InputError(problem, where=where, hint=_hint(f"openenv.{option}", properties))


def _hint(option: str, properties: Mapping[str, Any]) -> str:
    return f"{option} can be {', '.join(properties) or 'nothing: there is none'}"
