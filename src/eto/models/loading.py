"""A model and its tokenizer from a directory or the Hub: every weight from the file, or an error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
)

from eto.errors import InputError
from eto.models.adapters import merged_adapter
from eto.models.architecture import HINT
from eto.models.checkpoint import (
    ADAPTER,
    AGAIN,
    CONFIG,
    GIVE,
    adapter_base,
    check_config,
    check_directory,
    has_vocabulary,
)
from eto.models.embedded import embedded_model
from eto.models.one_at_a_time import LOADING
from eto.models.probe import FOREIGN

UNREADABLE = (*FOREIGN, ImportError, OSError, SafetensorError, StrictDataclassError)
"""What `transformers` raises for files that it cannot make a model or tokenizer of."""
NAMED = 3
"""Tensors that an error names."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model comes from; each a directory or a Hub id."""

    model: str
    tokenizer: str
    adapter: Path | None = None
    """A directory with LoRA weights that belong into `model`."""


def find_model(path: str | Path) -> Source:
    """What `path` names: `embedded`, a directory with a model or with an adapter, or a Hub id.

    Raises `InputError` where it is none of them, or the directory lacks something (`check_directory`).
    """
    name = str(path)
    if not name.strip():
        raise InputError("no model is named", where="model.path", hint=GIVE)
    if name == "embedded":
        embedded = str(embedded_model())
        return Source(embedded, embedded)
    folder = Path(name).expanduser()
    if not (name.startswith((".", "/", "~")) or folder.exists()):
        check_hub(name)
        return Source(name, name)
    if folder.is_dir() and not (folder / CONFIG).is_file() and (folder / ADAPTER).is_file():
        base = adapter_base(folder)
        if (Path(base).expanduser() / ADAPTER).is_file():
            raise InputError(
                f"the adapter's base {base!r} has an adapter itself",
                where=f"{folder / ADAPTER}: base_model_name_or_path",
                hint="merge that one first (merge_and_unload), and name the merged model",
            )
        own = has_vocabulary(folder)
        try:
            base_source = find_model(base)
        except InputError as error:
            raise InputError(
                f"the adapter's base {base!r} cannot be used: {error.problem}",
                where=f"{folder / ADAPTER}: base_model_name_or_path",
                hint="write the base's directory there, as an absolute path",
            ) from error
        return Source(base_source.model, str(folder) if own else base_source.tokenizer, folder)
    check_directory(folder)
    return Source(str(folder), str(folder))


def check_hub(source: str) -> None:
    """Raises `InputError` for a name neither cached nor on the Hub, before loading retries for a minute."""
    from httpx2 import HTTPError
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    from eto.environments.remote.proxies import usable_proxy

    hint = f"{GIVE}; check the network"
    try:
        if try_to_load_from_cache(source, CONFIG) is None:
            with usable_proxy(connects_only=False):
                HfApi().model_info(source, timeout=5)
    except HFValidationError as error:
        raise InputError("neither a directory here nor a Hub id", where=source, hint=hint) from error
    except (HfHubHTTPError, OfflineModeIsEnabled, HTTPError, OSError) as error:
        raise InputError("neither a directory here nor found on the Hub", where=source, hint=hint) from error


def load_tokenizer(source: Source) -> Any:
    """Raises `InputError` where there is none, or it needs a package that is not installed."""
    hint = (
        "give the model its tokenizer.json; older forms need the packages sentencepiece or tiktoken to be "
        "converted: AutoTokenizer.from_pretrained(OLD).save_pretrained(NEW)"
    )
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.tokenizer, trust_remote_code=False)
    except UNREADABLE as error:
        problem = f"cannot load the tokenizer: {brief(error)}"
        raise InputError(problem, where=source.tokenizer, hint=hint) from error
    if not tokenizer.encode("go north", add_special_tokens=False):
        # What transformers makes of a class name without a vocabulary.
        raise InputError("the tokenizer knows no words", where=source.tokenizer, hint=hint)
    return tokenizer


def load_model(source: Source, device: str | torch.device) -> Any:
    """The causal LM in fp32, an adapter merged into it.

    Raises `InputError` for weights that do not make it up exactly.
    """
    try:
        with LOADING:
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                source.model,
                dtype=torch.float32,
                attn_implementation="sdpa",
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # refused below, with the names
                output_loading_info=True,
                trust_remote_code=False,
            )
    except UNREADABLE as error:
        raise InputError(
            f"cannot load a causal LM: {brief(error)}",
            where=source.model,
            hint="check that the directory is whole and its weights are safetensors",
        ) from error
    model, report = loaded
    check_report(report, source.model)
    _check_numbers(model, source.model)
    if source.adapter is not None:
        model = merged_adapter(model, source.adapter)
    check_tied(model, str(source.adapter or source.model))
    return model.to(device)


def check_kind(source: str) -> None:
    """Raises `InputError` for a configuration that `transformers` has no causal LM for."""
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except UNREADABLE as error:
        given = _model_type(source)
        if given is not None and given not in CONFIG_MAPPING:
            raise InputError(
                f"transformers {transformers.__version__} has no architecture {given!r}, "
                "and code that comes with a model is not run",
                where=f"{source}: model_type",
                hint=f"{HINT}, or a newer transformers",
            ) from error
        raise InputError(
            f"cannot read the configuration: {brief(error)}", where=source, hint=AGAIN
        ) from error
    check_config(config.to_dict(), source)
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise InputError(f"{config.model_type} is not a causal language model", where=source, hint=HINT)


def _model_type(source: str) -> str | None:
    from transformers import PreTrainedConfig

    try:
        return PreTrainedConfig.get_config_dict(source)[0].get("model_type")
    except UNREADABLE:
        return None


def check_report(report: Mapping[str, Iterable[Any]], where: str) -> None:
    """Raises `InputError` for tensors that the file lacks, has beyond the model's, or has in other shapes.

    `report` is what `from_pretrained` reports. Left out of it are tied weights, which are in a file once,
    and what `transformers` lists for an architecture as made again or no longer used (buffers of older
    versions, such as `rotary_emb.inv_freq`, and heads for predicting several tokens).
    """
    shapes = [
        f"{name} is {_shape(given)}, not {_shape(wanted)}"
        for name, given, wanted in report["mismatched_keys"]
    ]
    keys = [
        _named("missing", report["missing_keys"]),
        _named("not in the model", report["unexpected_keys"]),
        _named("of another shape than config.json says", shapes),
        "; ".join(brief(each) for each in report.get("error_msgs", ())),
    ]
    problems = "; ".join(each for each in keys if each)
    if problems:
        raise InputError(
            f"the weights are not those of this model: {problems}",
            where=where,
            hint="take config.json and weights from one checkpoint, and a whole one",
        )


def _check_numbers(model: Any, where: str) -> None:
    for name, weight in model.named_parameters():
        if not torch.isfinite(weight.sum()) and not torch.isfinite(weight).all():
            raise InputError(f"{name} holds values that are not numbers", where=where, hint=AGAIN)


def check_tied(model: Any, where: str) -> None:
    """Raises `InputError` where embeddings are tied by the configuration and differ in the file: programs
    disagree on which of the two they then use."""
    head = model.get_output_embeddings()
    tied = getattr(model.config.get_text_config(), "tie_word_embeddings", False)
    if tied and head is not None and head.weight is not model.get_input_embeddings().weight:
        raise InputError(
            "tie_word_embeddings is true, but the output layer has weights of its own",
            where=where,
            hint="set tie_word_embeddings to false in config.json, or delete the output layer's tensor",
        )


def _named(what: str, names: Iterable[str]) -> str:
    ordered: Sequence[str] = sorted(names)
    more = f" and {len(ordered) - NAMED} more" if len(ordered) > NAMED else ""
    return f"{what}: {', '.join(ordered[:NAMED])}{more}" if ordered else ""


def _shape(sizes: Iterable[int]) -> str:
    return " x ".join(map(str, sizes))


def brief(error: object) -> str:
    """The start of a message, on one line."""
    text = " ".join(str(error).split()) or repr(error)
    return text if len(text) <= 200 else f"{text[:200]} ..."
