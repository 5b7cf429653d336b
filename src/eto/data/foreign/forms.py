"""Forms of items that other trainers use: how each is read, or the way to convert it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eto.data.checks import bad
from eto.data.foreign.fields import rule_of
from eto.data.foreign.lists import PAIR, TRAJECTORY
from eto.errors import InputError


@dataclass(frozen=True, slots=True)
class Form:
    """A form of item that other trainers use."""

    name: str
    keys: str
    """What it is recognised by."""
    says: str
    """How it is read, or the way to convert it."""


READ_AS_PAIRS = (
    Form("TRL, explicit prompt", "`prompt`, `chosen`, `rejected`", "messages or plain texts"),
    Form(
        "TRL, implicit prompt; UltraFeedback",
        "`chosen`, `rejected`: whole conversations",
        "the prompt is their common prefix; `prompt`, if there, must be the first user message",
    ),
    Form(
        "LLaMA-Factory ranking; Axolotl chat_template",
        "`conversations` or `messages`, with `chosen` and `rejected`",
        "the conversation is the prompt, each side follows it",
    ),
    Form(
        "LLaMA-Factory alpaca ranking",
        "`instruction` (`input`, `history`), with `chosen` and `rejected`, or two texts in `output`",
        "instruction and input, with a line break between, are the user's message",
    ),
    Form(
        "Axolotl intel, argilla",
        "`question` or `instruction`, `chosen_response`, `rejected_response`",
        "texts",
    ),
    Form(
        "ms-swift",
        "`messages` with `rejected_response` or `rejected_messages`",
        "the last reply of `messages` is chosen; with `rejected_messages`, all after the common prefix",
    ),
    Form(
        "OpenAI preference",
        "`input` with `messages`, `preferred_output`, `non_preferred_output`",
        "`tools` of `input` are shown",
    ),
)

REFUSED_FORMS = (
    (
        ("preferred_output", "rejected", "rejected_response", "rejected_messages"),
        Form("a preference item", "", "give the file to `eto dpo --pairs`; for trajectories, `messages`"),
    ),
    (
        ("completion+label", "response+label"),
        Form(
            "a KTO item",
            "`completion`, `label`",
            "pair a desirable with an undesirable completion of one prompt: `prompt`, `chosen`, `rejected`",
        ),
    ),
    (
        ("prompt+completion", "prompt+response"),
        Form(
            "a prompt-completion item",
            "`prompt`, `completion`",
            'write {"id", "messages": [{"role": "user", ...}, {"role": "assistant", ...}]}',
        ),
    ),
    (
        ("instruction+output",),
        Form(
            "an alpaca item",
            "`instruction`, `output`",
            'write {"id", "messages": [{"role": "user", ...}, {"role": "assistant", ...}]}',
        ),
    ),
    (
        ("input_ids",),
        Form("a tokenised item", "`input_ids`", "give messages as text: eto makes the ids itself"),
    ),
    (
        ("responses", "completions", "response_0+response_1", "response_a+response_b", "output_1+output_2"),
        Form(
            "a set of rated answers",
            "`responses`, `response_0`/`response_1`, `response_a`/`response_b`",
            "write the better one as `chosen` and the worse as `rejected`, with `prompt`",
        ),
    ),
    (
        ("text",),
        Form(
            "a plain-text item",
            "`text`",
            "split it into `messages` with roles: loss falls on the agent's only",
        ),
    ),
)
"""Sets of keys (joined by +) by which a form is recognised, and the form."""


def unknown_form(item: Mapping[str, Any], where: str, wanted: str) -> InputError:
    """The error for an item of a form that this reader does not read, by the form's name."""
    there = {key for key, value in item.items() if value is not None}
    for sets, form in REFUSED_FORMS:
        if any(set(keys.split("+")) <= there for keys in sets):
            hint = f"{form.says}; here, give objects with {wanted}"
            return InputError(f"unknown form: this is {form.name}", where=where, hint=hint)
    for name in sorted(there):
        near = rule_of(TRAJECTORY, name) or rule_of(PAIR, name)
        if isinstance(near, str) and near not in ("", "read", "ignored"):
            return bad(where, name, f"unknown field, very near to {near!r}", f"write {near!r}")
    shown = ", ".join(list(item)[:6]) or "none"
    return InputError(
        f"unknown form, with the fields {shown}", where=where, hint=f"give objects with {wanted}"
    )
