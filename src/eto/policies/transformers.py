"""A policy that runs a transformers causal LM in this process: acts, and can be trained."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from eto.errors import InputError, PromptTooLong
from eto.limits import Count, check_values
from eto.policies.adapters import adapted
from eto.policies.architecture import check_architecture, checked_vocabulary, chosen_context
from eto.policies.conversation import Conversation
from eto.policies.drafts import Drafts
from eto.policies.engine import Engine, extend
from eto.policies.loading import Source, check_kind, find_model, load_model, load_tokenizer
from eto.policies.precision import compute_dtype, device_of, weights_as, weights_in
from eto.policies.probe import check_acting
from eto.policies.saving import check_savable, save_model
from eto.protocols import Reply, ReplyEnd
from eto.rendering import NOT_AGENT, Rendered, Renderer, Thoughts
from eto.types import Message

FIELDS = {
    "dtype": "model.dtype",
    "lora": "model.lora",
    "max_context": "model.max_context",
    "max_action_tokens": "rollout.max_action_tokens",
}
"""Arguments of a policy as a recipe calls them."""


class TransformersPolicy:
    """Weights in fp32 for training, a compute-dtype copy for acting, one tokenizer.

    The acting copy is made when it first acts after training and dropped by
    `weights_changed`, so exploring always uses the current weights.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str = "policy",
        dtype: str = "auto",
        max_context: Count | None = None,
        max_action_tokens: Count = 32,
        lora: dict[str, Any] | None = None,
        drafting: bool = True,
        fast_paths: bool = True,
        renderer: Renderer | None = None,
    ) -> None:
        """`drafting`: guess how actions go on, which saves steps and changes no action. `fast_paths`: False
        trains by plain autograd. `renderer`: by default that of the tokenizer's own chat template."""
        given = {"dtype": dtype, "max_context": max_context, "max_action_tokens": max_action_tokens}
        check_values(TransformersPolicy.__init__, given, FIELDS)
        check_architecture(model)
        self.model, self.tokenizer, self.name = model, tokenizer, name
        self._lora, self.fast_paths = lora, fast_paths
        self.renderer = renderer or Renderer(tokenizer)
        self.renderer.embeddings = checked_vocabulary(model, tokenizer)
        self.tokenizer_id: str | None = self.renderer.fingerprint
        self.dtype = compute_dtype(dtype, model.device)
        self.max_context = chosen_context(model.config, max_context)
        self.max_action_tokens = max_action_tokens
        if max_action_tokens >= self.max_context:
            raise InputError(
                f"an action of up to {max_action_tokens} tokens leaves no room for a prompt: "
                f"the context holds {self.max_context}",
                where="rollout.max_action_tokens",
                mend="lower it, or raise model.max_context",
            )
        self._engine: Engine | None = None
        self._drafts = Drafts() if drafting else None
        self._active: list[Conversation] = []
        self._full: list[Conversation] = []

    # -- acting -----------------------------------------------------------------------

    def open(self, messages: Sequence[Message], *, temperature: float = 0.0, seed: int = 0) -> Conversation:
        """A conversation that starts with `messages`. Raises `PromptTooLong` if they do not fit."""
        talk = self.renderer.talk(messages)
        if (excess := len(talk.ids) + self.max_action_tokens - self.max_context) > 0:
            raise PromptTooLong(
                f"the prompt takes {len(talk.ids)} tokens and an action up to {self.max_action_tokens}: "
                f"{excess} more than the context of {self.max_context} holds",
                where="model.max_context",
                mend="use a model with a longer context, or shorten the environment's instruction",
            )
        generator = torch.Generator().manual_seed(seed) if temperature > 0 else None
        return Conversation(list(talk.ids), temperature=temperature, generator=generator, talk=talk)

    def submit(self, session: Conversation, observation: str | None = None) -> None:
        """Ask for the next action, after `observation` if there is one."""
        if observation is not None:
            session.observe(self.renderer.text(session.action), observation)
        session.action = []
        if len(session.ids) + self.max_action_tokens > self.max_context:
            self._full.append(session)
        else:
            self._active.append(session)

    def poll(self) -> list[Reply]:
        """One step of every submitted conversation; returns the actions that are now complete."""
        full, self._full = self._full, []
        replies = [Reply(session, "", None, ReplyEnd.CONTEXT) for session in full]
        if not self._active:
            return replies
        if self._engine is None:
            self._engine = Engine(self._acting_copy())
        if self._drafts is not None:
            for session in self._active:
                left = self.max_action_tokens - len(session.action) - 1
                session.draft = self._drafts.guess(session.ids, left, len(self._active))
        stops = (self.renderer.end_of_turn, self.tokenizer.eos_token_id)
        for session, logits in zip(list(self._active), self._engine.step(self._active), strict=True):
            if extend(session, logits, stops, self.max_action_tokens):
                self._active.remove(session)
                replies.append(self._reply(session, session.action[-1] in stops))
        return replies

    def _reply(self, session: Conversation, ended: bool) -> Reply:
        if self._drafts is not None:
            total = len(session.ids)
            self._drafts.learn(session.ids, range(total - len(session.action), total))
        text = self.renderer.text(session.action)
        end = ReplyEnd.END_OF_TURN if ended else ReplyEnd.LENGTH
        return Reply(session, text, tuple(session.action), end)

    def release(self, session: Conversation) -> None:
        """Forget a conversation and free its cache."""
        session.cache = None
        self._active = [s for s in self._active if s is not session]
        self._full = [s for s in self._full if s is not session]

    def remember(self, rendered: Rendered) -> None:
        """Guess from the actions of this trajectory too, for example an expert's that was cloned."""
        if self._drafts is not None:
            places = (at for at, turn in enumerate(rendered.turns) if turn != NOT_AGENT)
            self._drafts.learn(rendered.ids, places)

    def weights_changed(self) -> None:
        """Drop the acting copy; the next `open` acts with the weights as they are then."""
        if self._engine is not None:
            self._engine.close()
        self._engine = None

    def _acting_copy(self) -> Any:
        """The model in the compute type; in its own type it shares the weights."""
        if hasattr(self.model, "peft_config"):
            return weights_in(copy.deepcopy(self.model).merge_and_unload(), self.dtype)
        return copy.deepcopy(self.model, weights_as(self.model.parameters(), self.dtype))

    # -- files ------------------------------------------------------------------------

    def reload(self, directory: str | Path) -> None:
        """Take the weights that `save` wrote there.

        With LoRA these are merged weights and get fresh adapters: the lineage of an agent
        is a chain of whole models, and a stage's reference is the model it started from.
        """
        model = load_model(Source(str(directory), str(directory)), self.model.device)
        self.model = model if self._lora is None else adapted(model, self._lora)
        self.weights_changed()

    def save(self, directory: str | Path) -> None:
        """Write model (safetensors; adapters merged) and tokenizer, loadable by transformers.

        Raises `MissingRequirement` on a full disk, `InputError` where it cannot be written.
        """
        model = self.model
        if hasattr(model, "peft_config"):
            model = copy.deepcopy(model).merge_and_unload()
        save_model(model, self.renderer.saved_tokenizer, Path(directory))


def load_policy(
    path: str | Path = "embedded",
    *,
    name: str = "policy",
    dtype: str = "auto",
    lora: dict[str, Any] | None = None,
    max_context: Count | None = None,
    max_action_tokens: Count = 32,
    device: str | None = None,
    drafting: bool = True,
    fast_paths: bool = True,
    chat_template: str | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    thoughts: Thoughts = "auto",
    date: str | None = None,
) -> TransformersPolicy:
    """A policy from `embedded`, a local directory, or a Hub id; weights in fp32.

    A directory with a LoRA adapter alone is loaded merged into the base that it names. `lora` (rank,
    alpha, dropout, target_modules) adds fresh adapters and freezes the rest. `drafting` and
    `fast_paths` as in `TransformersPolicy`; `chat_template` (a file, or a name) and what
    follows as in `Renderer`. Raises
    `InputError` for a path that is no whole causal LM, an architecture that is not supported, a chat
    template that cannot be used, a model that could not be saved again, and an
    argument out of range.
    """
    check_values(load_policy, locals(), FIELDS)
    place = device_of(device)
    compute_dtype(dtype, place)
    source = find_model(path)
    check_kind(source.model)
    tokenizer = load_tokenizer(source)
    model = load_model(source, place)
    check_acting(model)
    check_savable(model, tokenizer, source.model)
    return TransformersPolicy(
        model if lora is None else adapted(model, lora),
        tokenizer,
        name=name,
        dtype=dtype,
        max_context=max_context,
        max_action_tokens=max_action_tokens,
        lora=lora,
        drafting=drafting,
        fast_paths=fast_paths,
        renderer=Renderer(
            tokenizer, chat_template, arguments=chat_template_kwargs, thoughts=thoughts, today=date
        ),
    )
