"""Requests leave nothing to the server, and no wrong answer passes for a right one."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eto.engines.server.wire import (
    completion_request,
    error_message,
    read_completion,
    read_scores,
    request_shape,
    scoring_request,
    versions_of,
)
from eto.protocols import Completion, EngineFault, Sampling

IDS = [5, 6, 7]
SAMPLING = Sampling(3, temperature=0.5, seed=2**63 - 1, stop=(9,))
RIGHT: dict[str, Any] = {
    "choices": [
        {
            "finish_reason": "stop",
            "token_ids": [4, 9],
            "prompt_token_ids": [5, 6, 7],
            "logprobs": {"token_logprobs": [-0.5, 0.00001]},
        }
    ]
}


def changed(**fields: Any) -> dict[str, Any]:
    answer = copy.deepcopy(RIGHT)
    answer["choices"][0] |= fields
    return answer


def test_a_request_states_every_sampling_value():
    """What is missing would come from the model's generation_config.json."""
    body = completion_request("m", IDS, SAMPLING)
    assert body["prompt"] == IDS and body["model"] == "m"
    assert (body["max_tokens"], body["temperature"], body["seed"]) == (3, 0.5, 2**63 - 1)
    assert (body["stop_token_ids"], body["ignore_eos"], body["n"]) == ([9], True, 1)
    neutral = {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
    neutral |= {"presence_penalty": 0.0, "frequency_penalty": 0.0, "min_tokens": 0}
    assert {name: body[name] for name in neutral} == neutral
    assert (body["logprobs"], body["return_token_ids"]) == (0, True)
    assert json.loads(json.dumps(body))["seed"] == 2**63 - 1


def test_scoring_asks_for_the_prompt_and_one_token():
    body = scoring_request("m", IDS)
    assert (body["max_tokens"], body["temperature"], body["prompt_logprobs"]) == (1, 0.0, 0)


def test_a_right_answer_is_read():
    """A log-prob a rounding above 0 is 0."""
    assert read_completion(RIGHT, IDS, SAMPLING, 2) == Completion((4, 9), (-0.5, 0.0), "stop", 2)
    cut = changed(finish_reason="length", token_ids=[1, 2, 3], logprobs={"token_logprobs": [-1, -2, -3]})
    assert read_completion(cut, IDS, SAMPLING) == Completion((1, 2, 3), (-1.0, -2.0, -3.0), "length")


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (None, "not a completion"),
        ([], "not a completion"),
        ({"choices": []}, "not a completion"),
        ({"choices": [1]}, "not a completion"),
        ({"choices": [RIGHT["choices"][0]] * 2}, "one choice"),
        (changed(prompt_token_ids=None), "takes no token ids"),
        (changed(prompt_token_ids=[1, 5, 6, 7]), "read 4 ids, and was sent 3"),
        (changed(prompt_token_ids=[5, 8, 7]), "8 in place of 6 at position 1"),
        (changed(token_ids=None), "no list of ids"),
        (changed(token_ids=[]), "no list of ids"),
        (changed(token_ids=[4, 2**40]), "the id 1099511627776, and the model has 100"),
        (changed(token_ids=[100, 9]), "the id 100, and the model has 100"),
        (changed(token_ids=[4, True]), "no list of ids"),
        (changed(token_ids=[4, "9"]), "no list of ids"),
        (changed(token_ids=[-1, 9]), "no list of ids"),
        (changed(logprobs=None), "2 ids and no log-probs"),
        (changed(logprobs={"token_logprobs": [-1]}), "2 ids and 1 log-probs"),
        (changed(logprobs={"token_logprobs": [-1, None]}), "no logarithms"),
        (changed(logprobs={"token_logprobs": [-1, 0.5]}), "no logarithms"),
        (changed(logprobs={"token_logprobs": [-1, float("nan")]}), "no logarithms"),
        (changed(logprobs={"token_logprobs": [float("-inf"), -1]}), "no logarithms"),
        (changed(finish_reason="abort"), "'abort'"),
        (changed(finish_reason=None), "None"),
        (changed(finish_reason="length"), "9 is a stop id"),
        (changed(token_ids=[4, 8]), "8 is no stop id"),
        (changed(token_ids=[9, 9]), "after a stop id"),
        (changed(token_ids=[1, 2, 3, 9], logprobs={"token_logprobs": [-1] * 4}), "4 tokens of at most 3"),
    ],
)
def test_a_wrong_answer_is_a_fault_that_names_what_is_wrong(answer, problem):
    fault = read_completion(answer, IDS, SAMPLING, vocabulary=100)
    assert isinstance(fault, EngineFault) and problem in fault.problem and fault.retryable


def test_an_answer_cut_early_is_of_a_shorter_context():
    fault = read_completion(changed(finish_reason="length", token_ids=[4, 8]), IDS, SAMPLING)
    assert isinstance(fault, EngineFault) and "context is shorter" in fault.problem and not fault.retryable


NAMES = st.sampled_from(["choices", *RIGHT["choices"][0]])
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner),
    max_leaves=12,
)


@given(field=st.sampled_from(sorted(RIGHT["choices"][0])), value=anything, whole=anything)
def test_no_answer_is_an_exception(field, value, whole):
    for answer in (whole, changed(**{field: value}), {"choices": [value]}):
        for read in (read_completion(answer, IDS, SAMPLING), read_scores(answer, IDS)):
            assert isinstance(read, Completion | EngineFault | list)
        versions_of(answer)
    error_message(whole)


def test_a_whole_number_too_large_for_a_float_is_no_log_prob():
    huge = changed(logprobs={"token_logprobs": [-1, -(10**400)]})
    fault = read_completion(huge, IDS, SAMPLING)
    assert isinstance(fault, EngineFault) and "no logarithms" in fault.problem


def test_the_weights_that_wrote_an_answer_are_read():
    spans = [{"version": "a", "start": 0}, {"version": ["b"]}, None, {}]
    assert versions_of(changed(weight_versions=spans)) == ["a", ["b"], None]
    assert versions_of(RIGHT) == versions_of({"choices": 5}) == []


def test_scores_are_read_by_id():
    listed = [None, {"6": {"logprob": -1.5}, "8": {"logprob": -0.1}}, {"7": {"logprob": -2}}]
    assert read_scores(changed(prompt_logprobs=listed), IDS) == [-1.5, -2.0]
    for wrong in (listed[:2], [None, {"8": {"logprob": -1}}, {"7": {"logprob": -2}}], None):
        assert isinstance(read_scores(changed(prompt_logprobs=wrong), IDS), EngineFault)


def test_an_error_shows_the_shape_of_a_request():
    shape = request_shape("http://here:8000", list(range(100)), SAMPLING)
    assert shape == (
        "POST http://here:8000/v1/completions with a prompt of 100 ids [0, 1, 2, 3, 4, 5, 6, 7, ...], "
        "max_tokens 3, temperature 0.5"
    )


def test_messages_of_errors_are_found():
    assert error_message({"error": {"message": "no"}}) == "no"
    assert error_message({"detail": "Not Found"}) == "Not Found"
    assert error_message({"detail": [{"loc": 1}]}) == error_message(None) == error_message("x") == ""
