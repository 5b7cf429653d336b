"""How a chat template writes the agent's turns, found by having it write probe conversations."""

from __future__ import annotations

from dataclasses import dataclass, replace

from eto.errors import InputError
from eto.tokens.chat_template import WHERE, ChatTemplate, with_opener
from eto.tokens.encoding import BREAK, CLOSE, OPEN, Encoding
from eto.types import Message

USERS = ("PROBEUSERONE", "PROBEUSERTWO", "PROBEUSERTHREE")
ANSWERS = ("PROBEANSWER", "PROBEREPLY", "PROBEEND")
THOUGHT = "PROBETHOUGHT"
PROBE = tuple(
    message
    for user, answer in zip(USERS, ANSWERS, strict=True)
    for message in (Message("user", user), Message("assistant", answer))
)


@dataclass(frozen=True, slots=True)
class TurnForm:
    """What stands around the texts of a conversation, special tokens included."""

    lead: str
    """White space that the agent writes before its text."""
    trail: str
    """White space that it writes after it, before the end-of-turn token."""
    end: int
    """The end-of-turn token."""
    end_text: str
    """How the template writes it in history; "" where it does not."""
    ends_turn: bool
    """The template writes it also where nothing follows: it belongs to the turn, not to the answer."""
    after_end: str
    """From there to the next observation."""
    before_action: str
    """From an observation to where the agent writes."""
    trims_agent: bool
    trims_user: bool
    takes_system: bool
    regular: bool
    """These pieces, one after the other, are what the template writes for plain text."""
    open_thought: str
    """`<think>` and what follows, where the generation prompt ends on a thought to be written."""
    empty_thought: bool
    """The generation prompt ends on an empty thought, after which no other may come."""
    knows_thoughts: bool
    """The template does something about thoughts, or shows those that are separate from the text."""
    shows_reasoning: bool
    writes_open: bool
    """The template puts `<think>` before each of the agent's texts, also in history."""
    strips: bool
    """Thoughts of past turns are left out, or past turns written otherwise than the last."""


def turn_form(template: ChatTemplate) -> tuple[ChatTemplate, TurnForm]:
    """`template`, made to open the agent's turns where it does not, and how it writes them.

    Raises `InputError` for a template that does not show each message exactly once, that
    writes something else each time, or whose generation prompt is not how its turns begin.
    """
    template = _opening(template)
    text = _checked(template)
    between = text.split(ANSWERS[0])[1].split(USERS[1])[0]
    before_action = text.split(USERS[1])[1]
    trail, end, end_text, after_end = _split_end(template.encoding, between)
    prompt = template.text(PROBE[:1], generate=True)
    last = template.text(PROBE[:2], generate=False)
    thinking = before_action if OPEN in before_action else ""
    opened = thinking[thinking.rfind(OPEN) :] if thinking and CLOSE not in thinking else ""
    lead = ""
    if last.startswith(prompt):
        lead = last[len(prompt) :].split(ANSWERS[0])[0]
    else:
        _check_opener(prompt, last, thinking)
    lead = "" if lead.strip() or opened else lead
    thoughts = _Thoughts(template)
    form = TurnForm(
        lead=lead,
        trail=trail,
        end=end,
        end_text=end_text,
        ends_turn=bool(end_text) and end_text in last.split(ANSWERS[0])[-1],
        after_end=after_end,
        before_action=before_action,
        trims_agent=_trims(template, "assistant"),
        trims_user=_trims(template, "user"),
        takes_system=_shows_system(template),
        regular=False,
        open_thought=opened,
        empty_thought=bool(thinking) and not opened,
        knows_thoughts=bool(thinking) or CLOSE in template.source or thoughts.shows_reasoning,
        shows_reasoning=thoughts.shows_reasoning,
        writes_open=thoughts.writes_open(),
        strips=False,
    )
    form = replace(form, regular=_regular(template, form, prompt))
    return template, replace(form, strips=not form.regular or thoughts.strips())


def _opening(template: ChatTemplate) -> ChatTemplate:
    """A template that ignores `add_generation_prompt` opens turns as it does in history."""
    asked, plain = (template.text(PROBE[:3], generate=generate) for generate in (True, False))
    if asked != plain or asked.count(USERS[1]) != 1:
        return template
    history = template.text(PROBE[:5], generate=False)
    if history.count(USERS[1]) != 1 or history.count(ANSWERS[1]) != 1:
        return template
    opener = history.split(USERS[1])[1].split(ANSWERS[1])[0]
    closer = asked.split(USERS[1])[1]
    if not opener.startswith(closer):
        return template
    # A space before the answer is the agent's to write: so it is tokenised as the template's text is.
    missing = opener[len(closer) :].split(OPEN)[0].rstrip(" ")
    if not missing.strip():
        return template
    return ChatTemplate(template.encoding, with_opener(template.source, missing), template.tools)


def _checked(template: ChatTemplate) -> str:
    """The probe of two turns, shown whole and each time alike."""
    texts = {template.text(PROBE[:3], generate=True) for _ in range(4)}
    if len(texts) > 1:
        raise InputError(
            f"the chat template writes something else each time: {difference(*sorted(texts)[:2])}",
            where=WHERE,
            hint="give a template that does not: model.chat_template=FILE",
        )
    (text,) = texts
    if any(text.count(probe) != 1 for probe in (USERS[0], ANSWERS[0], USERS[1])):
        raise InputError(
            "the chat template does not show each message exactly once",
            where=WHERE,
            hint="give a template that keeps the conversation's history: model.chat_template=FILE",
        )
    return text


def _check_opener(prompt: str, last: str, thinking: str) -> None:
    """Where the turn does not go on from the generation prompt, only a thought may be the reason."""
    if thinking and last.startswith(prompt[: prompt.rfind(OPEN)]):
        return
    raise InputError(
        "the generation prompt of the chat template is not how its turns begin: "
        + difference(prompt, last, "it asks with", "turns begin with"),
        where=WHERE,
        hint="give a template in which both are alike (model.chat_template=FILE), or, where it opens a "
        "thought, switch that off or on (model.chat_template_kwargs)",
    )


def _split_end(encoding: Encoding, between: str) -> tuple[str, int, str, str]:
    """What stands between text and end-of-turn token, the token, how it is written, and what follows."""
    rest = between.lstrip()
    ids = encoding.encode(rest)
    if ids and ids[0] in encoding.special:
        text = encoding.as_written(ids[:1])
        if rest.startswith(text):
            return between[: len(between) - len(rest)], ids[0], text, rest[len(text) :]
    eos = encoding.tokenizer.eos_token_id
    if eos is None:
        raise InputError(
            "the tokenizer has neither an end-of-turn token in its template nor an eos token",
            where="tokenizer",
            hint="set tokenizer.eos_token",
        )
    return "", eos, "", between


def _trims(template: ChatTemplate, role: str) -> bool:
    padded = f" \n{ANSWERS[0]} x\n "
    talk = list(PROBE[:3])
    at = 1 if role == "assistant" else 0
    talk[at] = Message(talk[at].role, padded)
    return padded not in template.text(talk, generate=True)


def _shows_system(template: ChatTemplate) -> bool:
    """Whether the template has a place for a system message: some refuse or drop it."""
    try:
        probe = [Message("system", "PROBESYSTEM"), Message("user", "PROBEUSER")]
        return "PROBESYSTEM" in template.text(probe, generate=True)
    except InputError:
        return False


def _regular(template: ChatTemplate, form: TurnForm, prompt: str) -> bool:
    """Whether the pieces give what the template writes, turn after turn, of plain text."""
    if not form.end_text or form.open_thought or form.empty_thought:
        return False
    ours = prompt
    for turn in range(len(ANSWERS)):
        if turn:
            ours += form.after_end + USERS[turn] + form.before_action
        if ours != template.text(PROBE[: 2 * turn + 1], generate=True):
            return False
        ours += form.lead + ANSWERS[turn] + form.trail
        if not template.text(PROBE[: 2 * turn + 2], generate=False).startswith(ours):
            return False
        ours += form.end_text
    return True


class _Thoughts:
    """Probes with a thought."""

    def __init__(self, template: ChatTemplate) -> None:
        self._template = template
        beside = [PROBE[0], Message("assistant", ANSWERS[0], reasoning=THOUGHT)]
        try:
            self.shows_reasoning = THOUGHT in template.text(beside, generate=False)
        except InputError:
            self.shows_reasoning = False

    def _past(self) -> str:
        said = Message("assistant", f"{OPEN}\n{THOUGHT}\n{CLOSE}\n\n{ANSWERS[0]}")
        return self._template.text([PROBE[0], said, PROBE[2]], generate=False)

    def writes_open(self) -> bool:
        before, shown, _ = self._past().partition(THOUGHT)
        # The system's text may speak of thoughts too; an empty thought is none that goes on.
        own = before.rpartition(USERS[0])[2]
        return bool(shown) and CLOSE not in own and own.count(OPEN) > 1

    def strips(self) -> bool:
        if THOUGHT not in self._past():
            return True
        beside = [PROBE[0], Message("assistant", ANSWERS[0], reasoning=THOUGHT), PROBE[2]]
        return self.shows_reasoning and THOUGHT not in self._template.text(beside, generate=False)


def difference(ours: str, theirs: str, one: str = "one has", other: str = "the other") -> str:
    """Where two texts part, in a few words."""
    ours, theirs = ours.replace(BREAK, ""), theirs.replace(BREAK, "")
    pairs = enumerate(zip(ours, theirs, strict=False))
    divergence = next((at for at, (a, b) in pairs if a != b), min(len(ours), len(theirs)))
    at = max(0, divergence - 25)
    return f"{one} {ours[at : at + 60]!r}, {other} {theirs[at : at + 60]!r}"
