"""Models behind `/v1/chat/completions`, which take and return text: for experts and baselines.

- `engine`: a conversation sent as messages, an action read from the answer

What such a model writes has no token ids of a tokenizer of ours: its turns are text alone, and training lays
them out with the learner's own template, as text from a file. It takes no weights, so no method trains it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eto.errors import InputError

if TYPE_CHECKING:
    from eto.engines.actor import Actor
    from eto.engines.opening import Needs
    from eto.settings import RolloutSettings
    from eto.settings.engines import ChatSettings

UNTRAINED = "a model behind a chat server takes no weights, so nothing can be trained with it"


def chat_actor(settings: ChatSettings) -> Actor:
    """An actor that asks a chat server. Its name is the model's. Raises `InputError` for an address or a key
    that cannot be used."""
    from eto.engines.actor import Actor
    from eto.engines.chat.engine import ChatEngine
    from eto.engines.server.connection import check_url, key_from

    check_url(settings.url, "rollout.chat.url")
    engine = ChatEngine(settings, key_from(settings.key_variable, "rollout.chat.key_variable"))
    return Actor(engine, engine.renderer, settings.model)


def open_engine(settings: RolloutSettings, needs: Needs) -> None:
    """Raises `InputError`: a run needs an engine that takes the weights it trains."""
    hint = "let it play with `eto explore` or `eto evaluate`; take another engine here"
    raise InputError(UNTRAINED, where="rollout.engine chat", hint=hint)
