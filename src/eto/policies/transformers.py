"""A policy that runs a transformers causal LM in this process: acts, and can be trained."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch.nn import Parameter
from transformers import AutoModelForCausalLM, AutoTokenizer

from eto.errors import InputError, PromptTooLong
from eto.files import disk_errors
from eto.policies.architecture import check_architecture, checked_vocabulary
from eto.policies.conversation import Conversation
from eto.policies.drafts import Drafts
from eto.policies.embedded import embedded_model
from eto.policies.engine import Engine, extend
from eto.protocols import Reply, ReplyEnd
from eto.rendering import NOT_AGENT, Rendered, Renderer, Thoughts
from eto.types import Message


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
        max_context: int | None = None,
        max_action_tokens: int = 32,
        lora: dict[str, Any] | None = None,
        drafting: bool = True,
        renderer: Renderer | None = None,
    ) -> None:
        """`drafting`: guess how actions go on, which saves steps and changes no action. `renderer`: by
        default that of the tokenizer's own chat template."""
        check_architecture(model)
        self.model, self.tokenizer, self.name = model, tokenizer, name
        self._lora = lora
        self.renderer = renderer or Renderer(tokenizer)
        self.renderer.embeddings = checked_vocabulary(model, tokenizer)
        self.tokenizer_id: str | None = self.renderer.fingerprint
        self.dtype = compute_dtype(dtype, model.device)
        limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        if max_context and limit and max_context > limit:
            raise InputError(
                f"max_context {max_context} is more than the model's {limit}", where="model.max_context"
            )
        self.max_context = max_context or limit or 4096
        self.max_action_tokens = max_action_tokens
        self._engine: Engine | None = None
        self._drafts = Drafts() if drafting else None
        self._active: list[Conversation] = []
        self._full: list[Conversation] = []

    # -- acting -----------------------------------------------------------------------

    def open(self, messages: Sequence[Message], *, temperature: float = 0.0, seed: int = 0) -> Conversation:
        """A conversation that starts with `messages`. Raises `PromptTooLong` if they do not fit, and
        `InputError` where no prompt can."""
        if self.max_action_tokens >= self.max_context:
            raise InputError(
                f"an action of up to {self.max_action_tokens} tokens leaves no room for a prompt: "
                f"the context holds {self.max_context}",
                where="explore.max_action_tokens",
                mend="lower it, or raise model.max_context",
            )
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
        model = _load_model(str(directory), self.model.device)
        self.model = model if self._lora is None else add_lora(model, **self._lora)
        self.weights_changed()

    def save(self, directory: str | Path) -> None:
        """Write model (safetensors; adapters merged) and tokenizer, loadable by transformers.

        Raises `MissingRequirement` on a full disk, `InputError` where it cannot be written.
        """
        model = self.model
        if hasattr(model, "peft_config"):
            model = copy.deepcopy(model).merge_and_unload()
        with disk_errors(Path(directory)):
            try:
                model.save_pretrained(directory)
            except SafetensorError as error:
                if (found := re.search(r"os error (\d+)", str(error))) is None:
                    raise
                raise OSError(int(found[1]), str(error), str(directory)) from error
            self.renderer.saved_tokenizer.save_pretrained(directory)


def load_policy(
    path: str | Path = "embedded",
    *,
    name: str = "policy",
    dtype: str = "auto",
    lora: dict[str, Any] | None = None,
    max_context: int | None = None,
    max_action_tokens: int = 32,
    device: str | None = None,
    drafting: bool = True,
    chat_template: str | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    thoughts: Thoughts = "auto",
    date: str | None = None,
) -> TransformersPolicy:
    """A policy from `embedded`, a local directory, or a Hub id; weights in fp32.

    `lora` (rank, alpha, dropout, target_modules) adds fresh adapters and freezes the rest.
    `drafting` as in `TransformersPolicy`; `chat_template` (a file, or a name) and what follows as in
    `Renderer`. Raises `InputError` for a path that is no causal LM.
    """
    source = str(embedded_model()) if str(path) == "embedded" else str(path)
    looks_local = source.startswith((".", "/", "~")) or Path(source).exists()
    folder = Path(source).expanduser()
    if looks_local and not (folder / "config.json").is_file():
        raise InputError(
            "no model here (config.json is missing)",
            where=str(folder),
            mend="give `embedded`, a directory written by save_pretrained, or a Hub id",
        )
    source = str(folder) if looks_local else source
    if not looks_local:
        check_hub(source)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        model = _load_model(source, device)
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot load a causal LM: {str(error).splitlines()[0]}",
            where=source,
            mend="check the path, the network, or that the weights are safetensors",
        ) from error
    if lora is not None:
        model = add_lora(model, **lora)
    return TransformersPolicy(
        model,
        tokenizer,
        name=name,
        dtype=dtype,
        max_context=max_context,
        max_action_tokens=max_action_tokens,
        lora=lora,
        drafting=drafting,
        renderer=Renderer(
            tokenizer, chat_template, arguments=chat_template_kwargs, thoughts=thoughts, today=date
        ),
    )


def check_hub(source: str) -> None:
    """Raises `InputError` for a name neither cached nor on the Hub, before loading retries for a minute."""
    from httpx2 import HTTPError
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    mend = "give `embedded`, a directory written by save_pretrained, or a Hub id; check the network"
    try:
        if try_to_load_from_cache(source, "config.json") is None:
            HfApi().model_info(source, timeout=5)
    except HFValidationError as error:
        raise InputError("neither a directory here nor a Hub id", where=source, mend=mend) from error
    except (HfHubHTTPError, OfflineModeIsEnabled, HTTPError, OSError) as error:
        raise InputError("neither a directory here nor found on the Hub", where=source, mend=mend) from error


def _load_model(source: str, device: str | torch.device) -> Any:
    model = AutoModelForCausalLM.from_pretrained(
        source, dtype=torch.float32, attn_implementation="sdpa", use_safetensors=True
    )
    return model.to(device)


def add_lora(
    model: Any, rank: int, alpha: float, dropout: float, target_modules: list[str] | None = None
) -> Any:
    """`model` frozen, with fresh LoRA adapters (on every linear layer unless named), always the same."""
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=target_modules or "all-linear",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return get_peft_model(model, settings)


def weights_in(model: Any, dtype: torch.dtype) -> Any:
    """`model` with its weights cast in place; buffers keep their type.

    `model.to(dtype)` would also round the frequencies of rotary embeddings, and some hundred
    tokens on such a model attends to other positions than the one that was trained.
    """
    for weight in model.parameters():
        if weight.is_floating_point():
            weight.data = weight.data.to(dtype)
    return model


def weights_as(weights: Iterable[Parameter], dtype: torch.dtype) -> dict[int, Parameter]:
    """Memo for `copy.deepcopy` by which a copied model has these weights in `dtype`, and shares those
    that have it already."""
    return {
        id(weight): Parameter(weight.detach().to(dtype), requires_grad=False)
        if weight.is_floating_point()
        else weight
        for weight in weights
    }


def compute_dtype(choice: str, device: torch.device) -> torch.dtype:
    """bfloat16 where it is native (`auto`), or the dtype named."""
    if choice != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[choice]
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported()
    else:
        native = _cpu_has_bf16()
    return torch.bfloat16 if native else torch.float32


def _cpu_has_bf16() -> bool:
    probes = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(probe is not None and probe() for probe in probes)
