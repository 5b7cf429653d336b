"""What the agent reads and writes is what its chat template writes, whatever the template does.

Each family's template is one of our own with the behaviour of the family. The yardstick is the
template itself: contexts are its text with the generation prompt, turns what it adds to that.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import warnings
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playing import Talk
from tiny import CHATML, SPECIAL, TEXT, tiny_model, tiny_tokenizer, trajectory
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from eto.errors import InputError
from eto.tokens.encoding import BREAK, Encoding
from eto.tokens.model_template import RECORD
from eto.tokens.rendering import Rendered, Renderer
from eto.training.learner import Learner, load_learner
from eto.types import Message, ToolCall, Trajectory, Turn

pytestmark = [
    pytest.mark.filterwarnings("ignore:the chat template"),
    pytest.mark.filterwarnings("ignore:past turns"),
]

QWEN = """{%- set place = namespace(query=-1) -%}
{%- for m in messages if m.role == 'user' -%}{%- set place.query = messages.index(m) -%}{%- endfor -%}
{%- if tools -%}
<|im_start|>system
Functions:
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}
<|im_end|>
{% endif -%}
{%- for m in messages -%}
{%- if m.role == 'assistant' -%}
{%- set thought = m.reasoning_content or '' -%}{%- set said = m.content or '' -%}
{%- if not thought and '</think>' in said -%}
{%- set thought = said.split('</think>')[0].split('<think>')[-1].strip() -%}
{%- set said = said.split('</think>')[-1].lstrip('\\n') -%}
{%- endif -%}
<|im_start|>assistant
{% if loop.index0 > place.query and (loop.last or thought) -%}
<think>
{{ thought.strip() }}
</think>

{% endif -%}
{{ said }}
{%- for call in m.tool_calls or [] %}
{{ '\\n' if said or not loop.first }}<call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</call>
{%- endfor -%}
<|im_end|>
{% elif m.role == 'tool' -%}
<|im_start|>user
<answer>
{{ m.content }}
</answer><|im_end|>
{% else -%}
<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% if enable_thinking is defined and not enable_thinking -%}
<think>

</think>

{% endif -%}
{%- endif -%}"""
R1 = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{{ m.content.split('</think>')[-1] if m.role == 'assistant' else m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
QUIET_R1 = R1.replace("assistant\n<think>\n", "assistant\n")
ALWAYS_OPEN = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ '<think>\n' if m.role == 'assistant' }}"
    "{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
DEAF = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
TRIMS = CHATML.replace("m.content", "m.content | trim")
OPENS = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
SPACED = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}"
    "{{ ' ' + m.content.strip() + ' </s>' }}"
    "{% else %}{{ '[INST] ' + m.content.strip() + ' [/INST]' }}{% endif %}{% endfor %}"
)
NEWLINE = CHATML.replace("{{ m.content }}", "{{ m.content }}\n")
NUMBERED = (
    "{% for m in messages %}<|im_start|>{{ m.role }} {{ loop.index }}\n"
    "{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant {{ messages | length + 1 }}\n{% endif %}"
)
LAST_SYSTEM = (
    "{% for m in messages if m.role != 'system' %}<|im_start|>{{ m.role }}\n"
    "{% if loop.last and messages[0].role == 'system' and m.role == 'user' %}"
    "{{ messages[0].content }}\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}" + OPENS
)
HUMANS = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
HOSTILE = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML
HARMONY = (
    "{% for m in messages %}<|im_start|>{{ m.role }}{% if m.role == 'assistant' %} to user{% endif %}\n"
    "{{ m.content }}{{ '<|endoftext|>' if loop.last and m.role == 'assistant' else '<|im_end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant{% endif %}"
)
DATED = (
    "{% if not today is defined %}{% set today = strftime_now('%d %b %Y') %}{% endif %}"
    "<|im_start|>system\nToday is {{ today }}.<|im_end|>\n" + CHATML
)
FAMILIES = {
    "chatml": (CHATML, {}),
    "qwen": (QWEN, {}),
    "r1": (R1, {}),
    "quiet r1": (QUIET_R1, {}),
    "deaf": (DEAF, {}),
    "trims": (TRIMS, {}),
    "spaced": (SPACED, {"eos": "</s>", "bos": "<s>"}),
    "newline": (NEWLINE, {}),
    "numbered": (NUMBERED, {}),
    "last system": (LAST_SYSTEM, {}),
    "humans": (HUMANS, {"eos": "<|endoftext|>"}),
    "hostile": (HOSTILE, {}),
    "harmony": (HARMONY, {"eos": "<|endoftext|>"}),
    "dated": (DATED, {}),
}
every_family = pytest.mark.parametrize("family", FAMILIES)
PROMPT = (Message("system", "You see a cup."), Message("user", "Begin."))
THOUGHTS = ("<think>\nI should look.\n</think>\n\ngo north", "<think>\nIt is shut.\n</think>\n\nopen door")


def renderer(family: str, **options) -> Renderer:
    template, named = FAMILIES[family]
    return Renderer(tiny_tokenizer(template, **named), **options)


def official(found: Renderer, messages, *, generate: bool, tools=None) -> str:
    """What plain `transformers` writes with the template that is used, and saved."""
    return found.tokenizer.apply_chat_template(
        messages, tools=tools, chat_template=found.template, tokenize=False, add_generation_prompt=generate
    )


def text(found: Renderer, ids) -> str:
    return found.tokenizer.decode(ids, clean_up_tokenization_spaces=False)


def marked(found: Renderer, samples: tuple[Rendered, ...]) -> dict[int, tuple[str, str]]:
    """For each turn its context and its own text."""
    turns = {}
    for sample in samples:
        for number in sorted(set(sample.turns) - {-1}):
            first, count = sample.turns.index(number), sample.turns.count(number)
            assert sample.turns[first : first + count] == (number,) * count
            turns[number] = text(found, sample.ids[:first]), text(found, sample.ids[first : first + count])
    return turns


@every_family
def test_contexts_are_the_templates_own(family):
    """Turn by turn: what stands before an action is the template's text with its generation prompt."""
    found = renderer(family)
    case = trajectory(("go north", "a door"), ("look", "a cup"), ("open door", ""))
    system = [] if family == "hostile" else [{"role": "system", "content": "You see a cup."}]
    first = "You see a cup.\n\nBegin." if family == "hostile" else "Begin."
    talk = [*system, {"role": "user", "content": first}]
    turns = marked(found, found.samples(case))
    assert sorted(turns) == [0, 1, 2]
    for number, turn in enumerate(case.turns):
        context, said = turns[number]
        assert context == official(found, talk, generate=True)
        assert turn.action in said
        assert said.count("<think>") <= 1
        talk += [{"role": "assistant", "content": turn.action}, {"role": "user", "content": turn.observation}]


@pytest.mark.parametrize("family", ["chatml", "deaf", "trims", "spaced", "newline", "numbered", "dated"])
def test_plain_turns_append_where_the_template_keeps_them(family):
    """One sample, and as a whole the template's own text of the conversation."""
    found = renderer(family)
    (sample,) = found.samples(trajectory(("go north", "a door"), ("open door", "")))
    talk = [
        {"role": role, "content": said}
        for role, said in (
            ("system", "You see a cup."),
            ("user", "Begin."),
            ("assistant", "go north"),
            ("user", "a door"),
            ("assistant", "open door"),
        )
    ]
    whole = official(found, talk, generate=False)
    assert text(found, sample.ids) == whole.rstrip()
    tokens = found.tokenizer.encode(whole, add_special_tokens=False)
    assert list(sample.ids) == tokens[: len(sample.ids)]


def test_spaces_around_an_answer_are_the_agents():
    found = renderer("spaced")
    turns = marked(found, found.samples(trajectory(("go north", "a door"))))
    assert turns[0][1] == " go north </s>"
    assert found.text(found.action_ids("go north")) == "go north"


def metaspace_tokenizer(template: str) -> PreTrainedTokenizerFast:
    """As Llama 2's and Mistral's: every text it encodes gets a space in front."""
    base = Tokenizer(models.BPE(unk_token="<unk>"))
    base.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    base.decoder = decoders.Metaspace(prepend_scheme="always")
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>"], show_progress=False)
    base.train_from_iterator([TEXT, "[INST] [/INST] user assistant\n"] * 2, trainer)
    base.add_special_tokens([AddedToken(each, special=True, normalized=False) for each in SPECIAL])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=base, eos_token="</s>", bos_token="<s>")
    tokenizer.chat_template = template
    return tokenizer


PIECES = (*SPECIAL, " ", "\n", "north", " go", "é", BREAK)
ENCODINGS = {
    "plain": Encoding(tiny_tokenizer()),
    "prefix space": Encoding(tiny_tokenizer(prefix_space=True)),
    "metaspace": Encoding(metaspace_tokenizer(CHATML)),
}


@pytest.mark.parametrize("template", [SPACED, CHATML])
@pytest.mark.parametrize("kind", ["prefix space", "metaspace"])
def test_tokenizers_that_put_a_space_before_a_text(template, kind):
    """The agent's first token is the one that stands there when the whole text is encoded."""
    named = {"eos": "</s>", "bos": "<s>", "prefix_space": True}
    tokenizer = metaspace_tokenizer(template) if kind == "metaspace" else tiny_tokenizer(template, **named)
    found = Renderer(tokenizer)
    (sample,) = found.samples(trajectory(("go north", "a door"), ("open door", ""), messages=PROMPT[1:]))
    talk = [("user", "Begin."), ("assistant", "go north"), ("user", "a door"), ("assistant", "open door")]
    whole = official(found, [{"role": role, "content": said} for role, said in talk], generate=False)
    assert list(sample.ids) == found.tokenizer.encode(whole, add_special_tokens=False)[: len(sample.ids)]
    assert found.text(found.action_ids("go north")) == "go north"


@pytest.mark.parametrize("kind", ["plain", "prefix space", "metaspace"])
@given(
    text=st.lists(st.sampled_from([*SPECIAL, " ", "\n", "north", " go", "é", BREAK]), max_size=12).map(
        "".join
    )
)
@settings(max_examples=60, deadline=None)
def test_a_text_encoded_again_has_the_same_ids(kind, text):
    found = ENCODINGS[kind]
    assert found.encode_again(text) == found.encode_again(text) == found.encode(text)


def test_what_a_template_trims_is_trimmed():
    found = renderer("trims")
    (sample,) = found.samples(trajectory((" go north\n", "\n a door "), ("look", "")))
    assert "\ngo north<|im_end|>\n<|im_start|>user\na door<|im_end|>" in text(found, sample.ids)


def test_a_line_break_before_the_end_of_turn_is_the_agents():
    found = renderer("newline")
    assert marked(found, found.samples(trajectory(("look", "a cup"))))[0][1] == "look\n<|im_end|>"


def test_a_template_that_ignores_the_generation_prompt_opens_turns_as_in_history():
    found = renderer("deaf")
    ids = found.prompt_ids(PROMPT)
    assert text(found, ids).endswith("<|im_end|>\n<|im_start|>assistant\n")
    assert any("ignores add_generation_prompt" in note for note in found.notes)


def test_a_generation_prompt_of_another_form_is_refused():
    template = CHATML.replace("assistant\n{% endif", "helper:{% endif")
    with pytest.raises(InputError, match=r"not how its turns begin: .*helper:"):
        Renderer(tiny_tokenizer(template))


@pytest.mark.parametrize("family", ["r1", "qwen", "quiet r1"])
def test_thoughts_are_trained_whole_and_stripped_from_the_past(family):
    found = renderer(family)
    case = trajectory((THOUGHTS[0], "a door"), (THOUGHTS[1], ""))
    samples = found.samples(case)
    assert len(samples) == 2
    turns = marked(found, samples)
    for (context, said), thought, action in zip(
        turns.values(), ("I should look.", "It is shut."), ("go north", "open door"), strict=True
    ):
        assert (context + said).count("<think>") == 1
        assert said.endswith(f"{thought}\n</think>\n\n{action}<|im_end|>")
    assert "I should look." not in turns[1][0]
    assert any("past turns" in note for note in found.notes)


def test_a_bare_action_never_stands_in_an_open_thought():
    found = renderer("r1")
    turns = marked(found, found.samples(trajectory(("go north", "a door"), ("open door", ""))))
    assert turns[1][0].endswith("<|im_start|>assistant\n<think>\n")
    assert turns[1][1] == "\n</think>\n\nopen door<|im_end|>"
    assert "<think>" not in turns[1][0].removesuffix("<think>\n")
    assert found.text(found.tokenizer.encode(turns[1][1], add_special_tokens=False)) == "open door"


def test_a_template_that_always_opens_a_thought_gets_none_twice():
    found = Renderer(tiny_tokenizer(ALWAYS_OPEN))
    for actions in (THOUGHTS, ("go north", "open door")):
        (sample,) = found.samples(trajectory(*[(action, "a door") for action in actions]))
        whole = text(found, sample.ids)
        assert whole.count("<think>") == whole.count("</think>") == 2


def test_kept_thoughts_append():
    found = renderer("r1", thoughts="keep")
    (sample,) = found.samples(trajectory((THOUGHTS[0], "a door"), (THOUGHTS[1], "")))
    assert text(found, sample.ids).endswith(
        "<|im_start|>assistant\n<think>\nI should look.\n</think>\n\ngo north<|im_end|>\n"
        "<|im_start|>user\na door<|im_end|>\n"
        "<|im_start|>assistant\n<think>\nIt is shut.\n</think>\n\nopen door<|im_end|>"
    )
    assert any("past turns are kept" in note for note in found.notes)


def test_the_last_thought_alone_is_kept():
    """What a context shows of the past then changes with the turn that follows it."""
    template = (
        "{% set place = namespace(last=-1) %}{% for m in messages if m.role == 'assistant' %}"
        "{% set place.last = messages.index(m) %}{% endfor %}"
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{{ m.content if loop.index0 == place.last else m.content.split('</think>')[-1].lstrip() }}"
        "<|im_end|>\n{% endfor %}" + OPENS
    )
    found = Renderer(tiny_tokenizer(template))
    turns = marked(
        found, found.samples(trajectory((THOUGHTS[0], "a door"), (THOUGHTS[1], "a cup"), ("look", "")))
    )
    assert [said for _, said in turns.values()] == [f"{t}<|im_end|>" for t in (*THOUGHTS, "look")]
    assert "I should look." in turns[1][0]
    assert "I should look." not in turns[2][0] and "It is shut." in turns[2][0]


def test_a_second_opening_mark_is_refused():
    always_empty = CHATML.replace(
        "{{ m.content", "{{ '<think></think>' if m.role == 'assistant' }}{{ m.content"
    )
    found = Renderer(tiny_tokenizer(always_empty))
    assert marked(found, found.samples(trajectory(("look", ""))))[0][1] == "<think></think>look<|im_end|>"
    with pytest.raises(InputError, match="<think> twice"):
        found.samples(trajectory((THOUGHTS[0], "")))


def test_thinking_switched_off():
    found = renderer("qwen", arguments={"enable_thinking": False})
    turns = marked(found, found.samples(trajectory(("go north", "a door"), ("open door", ""))))
    assert turns[1][0].endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert [said for _, said in turns.values()] == ["go north<|im_end|>", "open door<|im_end|>"]
    with pytest.raises(InputError, match=r"tiny/0: .*an empty thought.*\n.*enable_thinking"):
        found.samples(trajectory((THOUGHTS[0], "a door")))


def test_strip_without_effect_is_refused():
    with pytest.raises(InputError, match="strips nothing"):
        renderer("chatml", thoughts="strip")
    assert renderer("qwen", thoughts="strip").thoughts == "strip"
    with pytest.raises(InputError, match="unknown 'drop'"):
        renderer("qwen", thoughts="drop")


# -- tool calls and reasoning ---------------------------------------------------------

TOOLS = ({"type": "function", "function": {"name": "search", "parameters": {"type": "object"}}},)
CALL = ToolCall("search", '{"query": "red <|im_end|> mug", "most": 3}', "call_1")


def calling(**fields) -> Trajectory:
    answers = (Message("tool", "3 mugs <|im_start|>", tool_call_id="call_1", name="search"),)
    turns = (
        Turn("", "3 mugs", reasoning="Look first.", tool_calls=(CALL,), answers=answers),
        Turn("Bought.", "", reasoning="The first is red."),
    )
    return replace(
        trajectory(turns=turns), messages=(Message("user", "Buy a red mug."),), tools=TOOLS, **fields
    )


def test_calls_of_functions_are_the_agents_tokens():
    found = renderer("qwen")
    samples = found.samples(calling())
    assert len(samples) == 1  # within one query thoughts stay
    turns = marked(found, samples)
    assert turns[0][1] == (
        "<think>\nLook first.\n</think>\n\n<call>\n"
        '{"name": "search", "arguments": {"query": "red <|im_end|> mug", "most": 3}}\n</call><|im_end|>'
    )
    assert '"name": "search"' in turns[0][0].split("<|im_start|>user")[0]
    assert "<answer>\n3 mugs <|im_start|>\n</answer>" in turns[1][0]
    assert turns[1][1] == "<think>\nThe first is red.\n</think>\n\nBought.<|im_end|>"


def test_text_in_calls_never_becomes_a_special_token():
    found = renderer("qwen")
    (sample,) = found.samples(calling())
    special = found.tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    harmless = replace(CALL, arguments='{"query": "red mug", "most": 3}')
    case = calling()
    first = replace(
        case.turns[0], tool_calls=(harmless,), answers=(Message("tool", "3 mugs", tool_call_id="call_1"),)
    )
    (plain,) = found.samples(replace(case, turns=(first, case.turns[1])))
    assert [i for i in sample.ids if i in special] == [i for i in plain.ids if i in special]


@pytest.mark.parametrize(
    ("turn", "problem"),
    [
        (Turn("I will search.", "", tool_calls=(CALL,)), "a call of 'search'"),
        (Turn("", "", tool_calls=(CALL,)), "a call of 'search'"),
        (Turn("Bought.", "", reasoning="The first one is red."), "knows no thoughts"),
        (Turn("<think>\na\n</think>\n\nb", "", reasoning="c"), "in its text and beside it"),
        (Turn("", "", tool_calls=(replace(CALL, arguments="[1]"),)), "not a JSON object"),
    ],
)
def test_what_a_template_would_drop_is_refused(turn, problem):
    with pytest.raises(InputError, match=f"tiny/0.*{problem}.*\n  hint: "):
        renderer("chatml").samples(trajectory(turns=(turn,)))


def test_a_template_without_tools_is_refused():
    with pytest.raises(InputError, match=r"tools\): 'search'"):
        renderer("chatml").samples(trajectory(("look", "")).__class__(**_fields(tools=TOOLS)))
    silent = QWEN.replace("{{ m.content }}\n</answer>", "</answer>")
    with pytest.raises(InputError, match="does not show a tool message"):
        Renderer(tiny_tokenizer(silent)).samples(calling())


def _fields(**changes) -> dict:
    case = trajectory(("look", ""))
    return {name: getattr(case, name) for name in case.__slots__} | changes


def test_a_turn_of_several_parts_goes_to_its_last_end():
    parts = QWEN.replace(
        "<think>\n{{ thought.strip() }}\n</think>\n", "<s>{{ thought }}<|im_end|><|im_start|>assistant"
    )
    assert parts != QWEN
    found = Renderer(tiny_tokenizer(parts))
    said = marked(found, found.samples(calling()))[1][1]
    assert said == "<s>The first is red.<|im_end|><|im_start|>assistant\nBought.<|im_end|>"


def test_a_turn_ends_on_the_token_that_opens_the_answer():
    """GLM's turns have no end of their own: what follows says who speaks."""
    template = (
        "{{ tools | tojson if tools }}{% for m in messages %}"
        "{% if m.role == 'tool' %}<|eot_id|>{{ m.content }}{% elif m.role == 'user' %}"
        "<s>{{ m.content }}{% else %}<bos>{{ m.content }}{% for call in m.tool_calls or [] %}"
        "{{ call.function.name }}{{ call.function.arguments | tojson }}{% endfor %}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<bos>{% endif %}"
    )
    found = Renderer(tiny_tokenizer(template))
    case = calling()
    turns = tuple(replace(turn, reasoning="") for turn in case.turns)
    said = marked(found, found.samples(replace(case, turns=turns)))
    assert said[0][1].endswith("}<|eot_id|>")
    assert said[1][1] == "Bought.<s>"


def test_a_template_for_tools_is_looked_at_where_there_are_tools():
    needs = "{% if not tools %}{{ raise_exception('no tools') }}{% endif %}" + QWEN
    found = Renderer(tiny_tokenizer({"default": CHATML, "tool_use": needs}))
    assert len(found.samples(calling())) == 1
    broken = Renderer(tiny_tokenizer({"default": CHATML, "tool_use": "{{ nothing.at.all }}"}))
    broken.samples(trajectory(("look", "")))
    with pytest.raises(InputError, match=r"tiny/0.*refuses a conversation"):
        broken.samples(calling())


def test_arguments_as_text_where_the_template_joins_texts():
    joined = QWEN.replace("call.function.arguments | tojson", "'' + call.function.arguments")
    found = Renderer(tiny_tokenizer(joined))
    assert (
        '"arguments": {"query": "red <|im_end|> mug", "most": 3}'
        in marked(found, found.samples(calling()))[0][1]
    )


def test_reasoning_in_the_form_the_template_reads():
    found = renderer("r1")
    turns = (Turn("go north", "a door", reasoning="I should look."), Turn("look", "", reasoning="Again."))
    inside = [(THOUGHTS[0], "a door"), ("<think>\nAgain.\n</think>\n\nlook", "")]
    assert found.samples(trajectory(turns=turns)) == found.samples(trajectory(*inside))


@every_family
def test_a_turn_without_loss_is_context_alone(family):
    found = renderer(family)
    turns = (Turn("go north", "a door"), Turn("drink water", "no", loss=False), Turn("look", ""))
    with_loss = marked(found, found.samples(trajectory(turns=tuple(replace(t, loss=True) for t in turns))))
    without = marked(found, found.samples(trajectory(turns=turns)))
    assert without == {number: with_loss[number] for number in (0, 2)}
    assert "drink water" in without[2][0]


# -- templates that are no constants --------------------------------------------------


def test_the_date_is_fixed(monkeypatch):
    from transformers.utils import chat_template_utils

    class Tomorrow(datetime.datetime):
        @classmethod
        def now(cls, *arguments):
            return datetime.datetime.now(*arguments) + datetime.timedelta(days=1)

    def look(**options):
        found = renderer("dated", **options)
        return found.fingerprint, found.render(trajectory(("look", ""))).ids

    today = look()
    other = look(today="2026-01-31")
    monkeypatch.setattr(chat_template_utils, "datetime", Tomorrow)
    chat_template_utils._compile_jinja_template.cache_clear()
    assert look() == today
    assert look(today="2026-01-31") == other
    assert other[0] != today[0]
    assert "31 Jan 2026" in text(renderer("dated"), other[1])
    assert any("fixed at 2024-07-26" in note for note in renderer("dated").notes)


@pytest.mark.parametrize(
    ("family", "options", "problem"),
    [
        ("dated", {"today": "tomorrow"}, "'tomorrow' is not a date"),
        ("chatml", {"today": "2026-01-31"}, "writes no date"),
        ("chatml", {"arguments": {"enable_thinking": False}}, "reads no such argument"),
        ("chatml", {"arguments": {"messages": []}}, "not an argument one can give"),
        ("dated", {"arguments": {"today": float("nan")}}, "not a value that a template accepts"),
    ],
)
def test_settings_without_effect_are_refused(family, options, problem):
    with pytest.raises(InputError, match=problem):
        renderer(family, **options)


@pytest.mark.parametrize("draw", ["{{ [1, 2, 3] | random }}", "{{ range(9) | random }}", "{{ lipsum(n=1) }}"])
def test_a_template_that_draws_by_chance_is_refused(draw):
    with pytest.raises(InputError, match="something else each time"):
        Renderer(tiny_tokenizer(CHATML + draw))


def test_a_date_in_a_form_put_together_is_refused():
    with pytest.raises(InputError, match="puts together itself"):
        Renderer(tiny_tokenizer("{% set f = '%Y' %}{{ strftime_now(f) }}" + CHATML))


# -- which template -------------------------------------------------------------------


def test_named_templates():
    tokenizer = tiny_tokenizer({"default": CHATML, "tool_use": QWEN, "rag": "{{ documents }}"})
    found = Renderer(tokenizer)
    assert found.template == CHATML
    assert text(found, found.samples(calling())[0].ids).startswith("<|im_start|>system\nFunctions:")
    assert Renderer(tokenizer, "tool_use").template == QWEN
    with pytest.raises(InputError, match=r"templates 'one', 'two', and none is named 'default'(.|\n)*=one"):
        Renderer(tiny_tokenizer({"two": CHATML, "one": CHATML}))
    with pytest.raises(InputError, match=r"cannot read the chat template(.|\n)*'default', 'rag', 'tool_use'"):
        Renderer(tokenizer, "tools")


def test_a_template_of_ones_own(tmp_path):
    path = tmp_path / "mine.jinja"
    path.write_text(TRIMS)
    assert Renderer(tiny_tokenizer(), str(path)).template == TRIMS
    with pytest.raises(InputError, match="No such file"):
        Renderer(tiny_tokenizer(), str(tmp_path / "absent.jinja"))
    (tmp_path / "broken.jinja").write_text("{% for m in messages %}")
    with pytest.raises(InputError, match="the chat template refuses"):
        Renderer(tiny_tokenizer(), str(tmp_path / "broken.jinja"))


def test_half_of_a_pair_is_replaced():
    found = renderer("chatml")
    rendered = found.render(trajectory(("say \ud83d", "well done \ude00"), ("ok \ud83d\ude00", "")))
    assert "say \ufffd<|im_end|>" in text(found, rendered.ids)
    assert "well done \ufffd" in text(found, rendered.ids)
    assert "ok \N{GRINNING FACE}" in text(found, rendered.ids)


# -- acting, training and saving ------------------------------------------------------


def policy(family: str, **options) -> Learner:
    template, named = FAMILIES[family]
    tokenizer = tiny_tokenizer(template, **named)
    options = {"dtype": "float32", **options}
    return Learner(tiny_model(len(tokenizer)), tokenizer, **options)


def play(agent: Learner, observations) -> tuple[Trajectory, list[list[int]]]:
    """Greedy actions, and what stood before each when it was written."""
    talk, contexts = Talk(agent.actor("a"), PROMPT, max_tokens=6), []
    for observation in observations:
        turn = talk.act()
        contexts.append(talk.ids[: len(talk.ids) - len(turn.action_ids)])
        talk.hear(observation)
    tokenizer = talk.actor.tokenizer_id
    return trajectory(turns=tuple(talk.turns), messages=PROMPT, tokenizer=tokenizer), contexts


@every_family
def test_training_sees_what_acting_saw(family):
    agent = policy(family)
    played, contexts = play(agent, ("a door", "a cup", " an apple\n"))
    for sample in agent.renderer.samples(played):
        for number in sorted(set(sample.turns) - {-1}):
            first = sample.turns.index(number)
            assert list(sample.ids[:first]) == contexts[number]
            count = sample.turns.count(number)
            assert sample.ids[first : first + count] == played.turns[number].action_ids


def test_a_conversation_laid_out_anew_acts_as_a_new_one():
    """The cache is cut back to what is still right."""
    agent = policy("r1")
    played, contexts = play(agent, ("a door", "a cup", "an apple"))
    for context, turn in zip(contexts, played.turns, strict=True):
        actor = policy("r1").actor("fresh")
        done = asyncio.run(actor.engine.generate(context, actor.sampling(6)))
        assert done.ids == turn.action_ids


@pytest.mark.parametrize("family", ["r1", "last system"])
def test_log_probs_are_the_sum_over_samples(family):
    """A side of several samples has one leaf: each turn's tokens in the turn's own context."""
    import torch

    from eto.training.backends.core_groups import grouped_log_probs
    from eto.training.cloning import sft_example

    agent = policy(family)
    case = trajectory(("go north", "a door"), ("open door", "a cup"), ("look", ""))
    samples = agent.renderer.samples(case)
    assert len(samples) == 3
    example = sft_example(agent, case)
    ((found,),) = grouped_log_probs(agent.model, [example.tree], torch.float32, 4096)
    expected = []
    for sample in samples:
        with torch.no_grad():
            scores = agent.model(torch.tensor([sample.ids])).logits[0].log_softmax(-1)
        expected += [
            float(scores[at - 1, token])
            for at, (token, turn) in enumerate(zip(sample.ids, sample.turns, strict=True))
            if turn >= 0
        ]
    assert example.size == len(expected)
    assert found.tolist() == pytest.approx(expected, abs=1e-4)


@every_family
def test_the_saved_agent_speaks_in_its_form(family, tmp_path):
    """Plain `transformers` gives our ids from the saved folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        agent = policy(family)
    agent.save(tmp_path / "agent")
    talk = (Message("user", "Begin."), Message("assistant", "go north"), Message("user", "a door"))
    ids = AutoTokenizer.from_pretrained(tmp_path / "agent").apply_chat_template(
        [{"role": m.role, "content": m.content} for m in talk], add_generation_prompt=True, return_dict=False
    )
    assert ids == agent.renderer.prompt_ids(talk)
    again = load_learner(tmp_path / "agent", dtype="float32")
    assert again.renderer.fingerprint == agent.renderer.fingerprint
    assert again.renderer.prompt_ids(talk) == ids


def test_arguments_date_and_thoughts_go_with_the_agent(tmp_path):
    both = QWEN + "{{ strftime_now('%Y') if false }}"
    tokenizer = tiny_tokenizer(both)
    agent = Learner(
        tiny_model(len(tokenizer)),
        tokenizer,
        dtype="float32",
        renderer=Renderer(
            tokenizer, arguments={"enable_thinking": False}, thoughts="keep", today="2025-12-24"
        ),
    )
    agent.save(tmp_path / "agent")
    assert json.loads((tmp_path / "agent" / "tokenizer_config.json").read_text())[RECORD] == "keep"
    again = load_learner(tmp_path / "agent", dtype="float32", chat_template_kwargs={"enable_thinking": False})
    assert again.renderer.thoughts == "keep"
    assert again.renderer.fingerprint == agent.renderer.fingerprint
    assert tokenizer.chat_template == both
    with pytest.raises(InputError, match="fixed at 2025-12-24"):
        load_learner(tmp_path / "agent", dtype="float32", date="2026-01-01")


def test_a_tokenizer_larger_than_the_embedding_is_refused():
    tokenizer = tiny_tokenizer()
    with pytest.raises(InputError, match=f"has {len(tokenizer)} tokens, the model {len(tokenizer) - 2} emb"):
        Learner(tiny_model(len(tokenizer) - 2), tokenizer)
    agent = Learner(tiny_model(len(tokenizer) + 30), tokenizer)
    case = trajectory(turns=(Turn("look", "", 0.0, (len(tokenizer) + 29,)),), tokenizer=agent.tokenizer_id)
    agent.renderer.samples(case)
    beyond = replace(case, turns=(replace(case.turns[0], action_ids=(len(tokenizer) + 30,)),))
    with pytest.raises(InputError, match=r"tiny/0: action_ids: .* beyond"):
        agent.renderer.samples(beyond)
