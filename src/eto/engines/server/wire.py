"""What is sent to a server and what an answer must be: token ids in, token ids and log-probs out.

`POST /v1/completions` as vLLM answers it, with `return_token_ids`. Servers ignore fields they do not know
without a word, so every answer is checked: the prompt's ids come back as sent, each id has a log-prob, the
last id is a stop id exactly where the answer says that it stopped.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, cast

from eto.data.texts import brief
from eto.protocols import Completion, EngineFault, Finish, Sampling

COMPLETIONS = "/v1/completions"
LARGEST = 2**31
"""More ids than any model has."""
ROUNDING = 1e-4
"""By how much a log-prob may exceed 0."""
SHOWN_IDS = 8
"""Ids of a prompt that an error shows."""


def completion_request(model: str, ids: Sequence[int], sampling: Sampling) -> dict[str, Any]:
    """A request that leaves nothing to the server: what is not sent comes from the model's
    generation_config.json. `ignore_eos`: only the stop ids end a continuation."""
    return {
        "model": model,
        "prompt": list(ids),
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "seed": sampling.seed,
        "stop_token_ids": list(sampling.stop),
        "ignore_eos": True,
        "n": 1,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "min_tokens": 0,
        "logprobs": 0,
        "return_token_ids": True,
        "skip_special_tokens": False,
        "stream": False,
    }


def scoring_request(model: str, ids: Sequence[int]) -> dict[str, Any]:
    """A request for the log-probs of `ids` themselves; one token, thrown away, is written after them."""
    return completion_request(model, ids, Sampling(1)) | {"prompt_logprobs": 0}


def request_shape(url: str, ids: Sequence[int], sampling: Sampling) -> str:
    """A request as an error shows it: what was asked of whom, without headers."""
    first = ", ".join(map(str, ids[:SHOWN_IDS])) + (", ..." if len(ids) > SHOWN_IDS else "")
    asked = f"max_tokens {sampling.max_tokens}, temperature {sampling.temperature:g}"
    return f"POST {url}{COMPLETIONS} with a prompt of {len(ids)} ids [{first}], {asked}"


def read_completion(
    answer: Any, ids: Sequence[int], sampling: Sampling, version: int = 0, vocabulary: int = LARGEST
) -> Completion | EngineFault:
    """The continuation of `ids` in a decoded answer; a fault that says what is wrong with it. `vocabulary`:
    the number of ids that the model has."""
    choice = _only_choice(answer)
    if isinstance(choice, EngineFault):
        return choice
    if (returned := choice.get("prompt_token_ids")) != list(ids):
        return EngineFault(_other_prompt(returned, ids))
    written, finish = choice.get("token_ids"), choice.get("finish_reason")
    if not _are_ids(written) or not written:
        return EngineFault("its answer has no list of ids in `token_ids`")
    if max(written) >= vocabulary:
        return EngineFault(f"it wrote the id {max(written)}, and the model has {vocabulary}")
    log_probs = _field(choice.get("logprobs"), "token_logprobs")
    if not isinstance(log_probs, list) or len(log_probs) != len(written):
        count = len(log_probs) if isinstance(log_probs, list) else "no"
        return EngineFault(f"its answer has {len(written)} ids and {count} log-probs")
    if not all(map(_is_log_prob, log_probs)):
        return EngineFault("its answer has log-probs that are no logarithms of probabilities")
    if (wrong := _wrong_end(written, finish, sampling)) is not None:
        return wrong
    probable = tuple(min(0.0, float(each)) for each in log_probs)
    return Completion(tuple(written), probable, cast(Finish, finish), version)


def read_scores(answer: Any, ids: Sequence[int]) -> list[float] | EngineFault:
    """From an answer to `scoring_request` the log-prob of each id but the first, given those before it:
    `[len(ids) - 1]`, in nats."""
    choice = _only_choice(answer)
    if isinstance(choice, EngineFault):
        return choice
    if (returned := choice.get("prompt_token_ids")) != list(ids):
        return EngineFault(_other_prompt(returned, ids))
    listed = choice.get("prompt_logprobs")
    if not isinstance(listed, list) or len(listed) != len(ids):
        return EngineFault("its answer has no log-prob of each id in `prompt_logprobs`")
    pairs = islice(zip(ids, listed, strict=True), 1, None)
    scores = [_field(_field(entry, str(token)), "logprob") for token, entry in pairs]
    if not all(map(_is_log_prob, scores)):
        return EngineFault("its answer has log-probs of the prompt that are no logarithms of probabilities")
    return [float(each) for each in scores]


def versions_of(answer: Any) -> list[Any]:
    """The names of the weights that wrote an answer; none where it does not tell."""
    choice = _only_choice(answer)
    spans = None if isinstance(choice, EngineFault) else choice.get("weight_versions")
    return (
        [span.get("version") for span in spans if isinstance(span, dict)] if isinstance(spans, list) else []
    )


def error_message(answer: Any) -> str:
    """The message of an error in OpenAI's form, or in FastAPI's; "" where there is none."""
    message = _field(_field(answer, "error"), "message") or _field(answer, "detail")
    message = message or _field(answer, "message")
    return message if isinstance(message, str) else ""


def _only_choice(answer: Any) -> Mapping[str, Any] | EngineFault:
    choices = _field(answer, "choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        return EngineFault(f"its answer is not a completion with one choice: {brief(answer)}")
    return choices[0]


def _other_prompt(returned: Any, ids: Sequence[int]) -> str:
    if not isinstance(returned, list):
        return "its answer does not say in `prompt_token_ids` what it read: it takes no token ids"
    if len(returned) != len(ids):
        return f"it read {len(returned)} ids, and was sent {len(ids)}"
    at = next(at for at, (there, here) in enumerate(zip(returned, ids, strict=True)) if there != here)
    return f"it read other ids than it was sent: {returned[at]!r} in place of {ids[at]} at position {at}"


def _wrong_end(written: Sequence[int], finish: Any, sampling: Sampling) -> EngineFault | None:
    if finish not in ("stop", "length"):
        return EngineFault(f"its answer ended with finish_reason {finish!r}")
    if len(written) > sampling.max_tokens:
        return EngineFault(f"it wrote {len(written)} tokens of at most {sampling.max_tokens}")
    if any(token in sampling.stop for token in written[:-1]):
        return EngineFault("it wrote on after a stop id")
    stopped = written[-1] in sampling.stop
    if stopped != (finish == "stop"):
        last = f"the last id {written[-1]} is {'a' if stopped else 'no'} stop id"
        return EngineFault(f"its answer ended with finish_reason {finish!r}, but {last}")
    if finish == "length" and len(written) < sampling.max_tokens:
        problem = f"it wrote {len(written)} tokens and cut there, with room for {sampling.max_tokens}"
        return EngineFault(f"{problem}: its context is shorter than the recipe's", retryable=False)
    return None


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and all(type(each) is int and each >= 0 for each in value)


def _is_log_prob(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and -sys.float_info.max <= value <= ROUNDING  # whole numbers of JSON have any size
