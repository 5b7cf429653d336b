"""Masks and ids for arbitrary text under many chat templates: nothing but the agent's tokens has loss."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import CHATML, SPECIAL, tiny_tokenizer, trajectory

from eto.errors import InputError
from eto.tokens.rendering import BREAK, PLAIN_TEMPLATE, Rendered, Renderer, check_mask
from eto.types import Message, Trajectory, Turn


@dataclass(frozen=True)
class Style:
    """A chat template of a family's style, and what must come out of it."""

    template: str | None
    end_of_turn: str
    options: dict


LLAMA_2 = (
    "{% if messages[0].role == 'system' %}"
    "{% set system, rest = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n', messages[1:] %}"
    "{% else %}{% set system, rest = '', messages %}{% endif %}"
    "{% for m in rest %}{% if m.role == 'user' %}"
    "{{ bos_token + '[INST] ' + (system if loop.first else '') + m.content.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
LLAMA_3 = (
    "{{ bos_token }}{% for m in messages %}"
    "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
MISTRAL = (  # the system message goes with the last user message, whichever that is
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] "
    "{% if loop.last and messages[0].role == 'system' %}{{ messages[0].content }}\n\n{% endif %}"
    "{{ m.content }}[/INST]{% elif m.role == 'assistant' %} {{ m.content }}{{ eos_token }}{% endif %}"
    "{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
DEAF = CHATML.replace("{% for m in messages %}", "{% for m in messages if m.role != 'system' %}")
DEFAULT_SYSTEM = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nBe of help.<|im_end|>\n{% endif %}" + CHATML
)
GENERATION = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}{% else %}{{ m.content }}<|im_end|>"
    "{% endif %}\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

STYLES = {
    "chatml": Style(CHATML, "<|im_end|>", {}),
    # The end of turn is special without being a named token, as in some base models.
    "chatml, other eos": Style(CHATML, "<|im_end|>", {"eos": "<|endoftext|>"}),
    "default system": Style(DEFAULT_SYSTEM, "<|im_end|>", {}),
    "generation markers": Style(GENERATION, "<|im_end|>", {}),
    "drops system": Style(DEAF, "<|im_end|>", {}),
    "llama 2": Style(LLAMA_2, "</s>", {"eos": "</s>", "bos": "<s>", "prefix_space": True}),
    "llama 3": Style(LLAMA_3, "<|eot_id|>", {"eos": "<|endoftext|>", "bos": "<|begin_of_text|>"}),
    "mistral": Style(MISTRAL, "</s>", {"eos": "</s>", "bos": "<s>", "special": ("[INST]", "[/INST]")}),
    "gemma": Style(GEMMA, "<end_of_turn>", {"eos": "<|endoftext|>", "bos": "<bos>"}),
    "none": Style(None, "<|endoftext|>", {"eos": "<|endoftext|>"}),
}
RENDERERS = {name: Renderer(tiny_tokenizer(s.template, **s.options)) for name, s in STYLES.items()}
every_style = pytest.mark.parametrize("style", STYLES)

MARKERS = (*SPECIAL, "[INST]", "[/INST]", "assistant", "\n", "### assistant\n", " ", "{{ eos_token }}", BREAK)
texts = st.lists(st.one_of(st.text(max_size=8), st.sampled_from(MARKERS)), max_size=5).map("".join)
turns = st.lists(st.tuples(texts, texts), min_size=1, max_size=4)
many = settings(max_examples=40, deadline=None)


def special_ids(renderer: Renderer, ids) -> list[int]:
    special = {i for i, t in renderer.tokenizer.added_tokens_decoder.items() if t.special}
    return [i for i in ids if i in special]


def decoded(renderer: Renderer, ids) -> str:
    return renderer.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def bare(text: str) -> str:
    """Without spaces: templates trim, and some tokenizers put one where encoding starts again."""
    return "".join(text.replace(BREAK, "").split())


def pieces(rendered: Rendered) -> list[tuple[int, list[int]]]:
    """(turn number or -1, ids) of each run of tokens."""
    labelled = zip(rendered.turns, rendered.ids, strict=True)
    return [(turn, [i for _, i in run]) for turn, run in groupby(labelled, key=lambda item: item[0])]


@every_style
@many
@given(prompt=texts, turns=turns)
def test_loss_is_on_actions_and_their_end_alone(style, prompt, turns):
    renderer = RENDERERS[style]
    rendered = renderer.render(trajectory(*turns, prompt=prompt))
    end = renderer.tokenizer.convert_tokens_to_ids(STYLES[style].end_of_turn)
    found = pieces(rendered)
    assert [turn for turn, _ in found] == [x for k in range(len(turns)) for x in (-1, k)]
    for number, (action, _) in enumerate(turns):
        ids = found[2 * number + 1][1]
        assert ids[-1] == end
        assert special_ids(renderer, ids) == [end]
        assert bare(decoded(renderer, ids[:-1])) == bare(action)
    for number, (_, observation) in enumerate(turns[:-1]):
        assert bare(observation) in bare(decoded(renderer, found[2 * number + 2][1]))
    check_mask(rendered)


@every_style
@many
@given(prompt=texts, turns=turns)
def test_text_never_becomes_a_special_token(style, prompt, turns):
    renderer = RENDERERS[style]
    rendered = renderer.render(trajectory(*turns, prompt=prompt))
    harmless = renderer.render(trajectory(*[("a", "b") for _ in turns], prompt="c"))
    assert special_ids(renderer, rendered.ids) == special_ids(renderer, harmless.ids)


@every_style
@many
@given(turns=turns)
def test_fewer_turns_are_a_prefix(style, turns):
    renderer = RENDERERS[style]
    whole = trajectory(*turns)
    rendered = [
        renderer.render(replace(whole, turns=whole.turns[: k + 1])).ids for k in range(len(whole.turns))
    ]
    for shorter, longer in pairwise(rendered):
        assert longer[: len(shorter)] == shorter
        assert len(longer) > len(shorter)


@every_style
@many
@given(turns=turns, room=st.integers(0, 120))
def test_cut_at_whole_turns(style, turns, room):
    renderer = RENDERERS[style]
    whole = renderer.render(trajectory(*turns))
    ends = [
        at + 1 for at, turn in enumerate(whole.turns) if turn >= 0 and whole.turns[at + 1 :][:1] != (turn,)
    ]
    fitting = [end for end in ends if end <= room]
    if not fitting:
        with pytest.raises(InputError, match=f"does not fit {room} tokens"):
            renderer.render(trajectory(*turns), max_tokens=room)
        return
    cut = renderer.render(trajectory(*turns), max_tokens=room)
    assert cut.ids == whole.ids[: fitting[-1]]
    assert cut.turns == whole.turns[: fitting[-1]]
    assert cut.dropped_turns == len(ends) - len(fitting)


@every_style
def test_prompt_is_the_templates_own(style):
    """For ordinary text the ids are those of the tokenizer's own chat rendering."""
    renderer = RENDERERS[style]
    messages = [Message("user", "You see a cup."), Message("assistant", "OK"), Message("user", "go on")]
    expected = renderer.tokenizer.apply_chat_template(
        [{"role": m.role, "content": m.content} for m in messages],
        chat_template=renderer.template,
        add_generation_prompt=True,
        return_dict=False,
    )
    assert renderer.prompt_ids(messages) == expected


@every_style
def test_conversation_is_the_templates_own_but_for_spaces(style):
    renderer = RENDERERS[style]
    messages = [("user", "Begin."), ("assistant", "go north"), ("user", "a door"), ("assistant", "open door")]
    official = renderer.tokenizer.apply_chat_template(
        [{"role": role, "content": text} for role, text in messages],
        chat_template=renderer.template,
        tokenize=False,
    )
    ours = trajectory(("go north", "a door"), ("open door", ""), messages=(Message("user", "Begin."),))
    text = decoded(renderer, renderer.render(ours).ids)
    assert "".join(official.split()).startswith("".join(text.split()))
    assert "".join(text.split()).endswith("opendoor" + STYLES[style].end_of_turn)


@every_style
def test_system_message_is_in_the_prompt(style):
    renderer = RENDERERS[style]
    ids = renderer.prompt_ids([Message("system", "You see a cup."), Message("user", "Begin.")])
    text = decoded(renderer, ids)
    assert text.count("You see a cup.") == 1
    assert text.index("You see a cup.") < text.index("Begin.")


def sampled(renderer: Renderer, *ids: tuple[int, ...], tokenizer: str | None = None) -> Trajectory:
    """A trajectory whose action ids are `ids`, whatever the text says."""
    fingerprint = tokenizer or renderer.fingerprint
    return trajectory(tokenizer=fingerprint, turns=tuple(Turn("go north", "a door", 0.0, x) for x in ids))


@every_style
def test_sampled_ids_are_used_as_they_are(style):
    renderer = RENDERERS[style]
    end = renderer.end_of_turn
    # One byte a token: no tokenizer would encode the text so.
    odd = tuple(renderer.tokenizer.convert_tokens_to_ids(list("north")))
    rendered = renderer.render(sampled(renderer, (*odd, end), (*odd, *odd, end)))
    assert [tuple(ids) for turn, ids in pieces(rendered) if turn >= 0] == [(*odd, end), (*odd, *odd, end)]


def test_ids_of_another_tokenizer_are_not_used():
    renderer, other = RENDERERS["chatml"], RENDERERS["llama 3"]
    assert renderer.fingerprint != other.fingerprint
    foreign = sampled(renderer, (1, 2, 3), tokenizer=other.fingerprint)
    assert renderer.render(foreign).ids == renderer.render(trajectory(("go north", "a door"))).ids


@every_style
def test_a_cut_action_is_closed_outside_the_loss(style):
    renderer = RENDERERS[style]
    end = renderer.end_of_turn
    rendered = renderer.render(sampled(renderer, (70, 71, 72), (70, end)))
    found = pieces(rendered)
    assert found[1] == (0, [70, 71, 72])
    assert found[2][1] == renderer.observation_ids("a door", closed=False)
    assert found[2][1][0] == end
    closed = renderer.render(sampled(renderer, (70, 71, 72, end), (70, end)))
    assert rendered.ids == closed.ids
    assert sum(rendered.mask) == sum(closed.mask) - 1


@many
@given(text=texts)
def test_text_of_an_action_comes_back(text):
    renderer = RENDERERS["chatml"]
    assert renderer.text(renderer.action_ids(text)) == text.replace(BREAK, "")
    assert renderer.text(renderer.action_ids(text)[:-1]) == text.replace(BREAK, "")


def test_a_tokenizer_without_template_gets_the_default():
    renderer = RENDERERS["none"]
    assert renderer.template == PLAIN_TEMPLATE
    rendered = renderer.render(trajectory(("go north", "a door"), ("open door", "")))
    assert decoded(renderer, rendered.ids) == (
        "### system\nYou see a cup.\n### user\nBegin.\n### assistant\ngo north<|endoftext|>\n"
        "### user\na door\n### assistant\nopen door<|endoftext|>"
    )


def test_fingerprint_tells_tokenizers_and_templates_apart():
    same = Renderer(tiny_tokenizer(CHATML))
    assert same.fingerprint == RENDERERS["chatml"].fingerprint
    assert len({renderer.fingerprint for renderer in RENDERERS.values()}) >= len(STYLES) - 1


@pytest.mark.parametrize("mask", [(0, 0, 0), (1, 1, 1)])
def test_a_mask_of_one_kind_is_an_error(mask):
    rendered = Rendered((5, 6, 7), tuple(m - 1 for m in mask))
    assert rendered.mask == mask
    with pytest.raises(InputError, match=f"tiny/3: the loss mask is all {mask[0]}"):
        check_mask(rendered, "tiny/3")


def test_no_turn_is_an_error():
    with pytest.raises(InputError, match="has no agent turn"):
        RENDERERS["chatml"].render(trajectory())


@pytest.mark.parametrize("messages", [[], [Message("user", "a"), Message("assistant", "b")]])
def test_a_prompt_ends_before_the_agent(messages):
    with pytest.raises(InputError, match="must end on a user"):
        RENDERERS["chatml"].prompt_ids(messages)


LAST_ONLY = (
    "{% for m in messages %}{% if loop.last %}<|im_start|>{{ m.content }}<|im_end|>{% endif %}{% endfor %}"
)


@pytest.mark.parametrize(
    ("template", "eos", "problem"),
    [
        (LAST_ONLY, "<|im_end|>", "does not show each message exactly once"),
        (None, None, "eos token"),
        ("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", None, "eos token"),
        ("{{ raise_exception('not today') }}", "<|im_end|>", "not today"),
    ],
)
def test_unusable_templates_are_refused(template, eos, problem):
    with pytest.raises(InputError, match=problem):
        Renderer(tiny_tokenizer(template, eos=eos))
