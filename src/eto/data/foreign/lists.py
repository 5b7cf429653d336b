"""Which fields of other trainers' items are read, refused or ignored.

The readers and the table in docs/files.md both come from here.
"""

from __future__ import annotations

from eto.data.foreign.fields import Field, Fields

LOSS_FLAGS = ("loss", "weight", "train", "training", "trainable", "train_on_turn", "learn", "loss_mask")
PROMPTS = ("prompt", "question", "instruction", "input")
CHOSEN = ("chosen", "chosen_response", "chosen_messages")
REJECTED = ("rejected", "rejected_response", "rejected_messages")
SCORES = tuple(
    pair
    for name in ("score", "reward", "rating")
    for pair in ((f"{name}_chosen", f"{name}_rejected"), (f"chosen_{name}", f"rejected_{name}"))
)
OUTCOMES = (
    *("score", "scores", "return", "returns", "rewards", "final_reward", "episode_reward", "total_reward"),
    *("is_success", "successful", "is_correct", "correct", "solved", "resolved", "passed", "won", "outcome"),
)
"""Other names under which data say how an episode went."""
METADATA = (
    "prompt_id",
    "completion_id",
    "response_id",
    "metadata",
    "extra",
    "info",
    "sources",
    "models",
    "dataset",
    "timestamp",
    "created_at",
    "uuid",
)

_TASK = (
    Field(("id", "item_id"), 'names the task; text or a whole number (17, "17" and 17.0 are one task)'),
    Field(("game_file",), "of ALFWorld: its task and trial folder name the task"),
)
_SHOWN = (
    Field(("system", "system_prompt", "system_message"), "becomes the system message"),
    Field(
        ("tools", "functions"),
        "functions the agent may call, a list or JSON text: shown by the chat template",
    ),
)
_WHOLE = Field(LOSS_FLAGS, "true or 1 changes nothing; false or 0 is refused: delete the item")
_ONLY_0_1 = "other numbers than 0 and 1, and texts, are refused"

_REFUSED_IN_ITEMS = (
    Field(
        ("images", "image", "videos", "video", "audios", "audio", "image_url", "pixel_values", "objects"),
        "delete the item: only text is trained",
    ),
    Field(
        ("chat_template", "chat_template_kwargs", "template_kwargs", "add_generation_prompt"),
        "set model.chat_template or model.chat_template_kwargs in the recipe, for all items alike",
    ),
    Field(("documents", "response_format", "schema"), "write what the agent is to see into a message"),
    Field(
        ("input_ids", "token_ids", "prompt_ids", "completion_ids", "attention_mask", "position_ids"),
        "give messages as text: eto makes the ids with the model's own template",
    ),
    Field(
        ("mask", "masked", "masks", "completion_mask", "assistant_mask", "assistant_masks", "loss_scale",
         "loss_weights", "step_loss_mask", "step_mask", "train_on_inputs", "roles_to_train", "mask_history",
         "sample_weight"),
        'mark single replies with "loss": false',
    ),
    Field(
        ("label", "labels"),
        "KTO items have no partner: pair each desirable answer with an undesirable one of its prompt",
    ),
    Field(
        ("margin", "margins", "beta", "advantage", "advantages", "ref_chosen_logps", "ref_rejected_logps",
         "reference_chosen_logps", "reference_rejected_logps", "old_logprobs", "ref_logprobs"),
        "delete the column: eto computes the reference itself and weighs pairs by dpo.* and contrast.*",
    ),
)  # fmt: skip

TRAJECTORY = Fields(
    "trajectory item",
    read=(
        Field(("conversations", "messages"), "the conversation: one of the two"),
        *_TASK,
        Field(("source",), "who acted; `expert` where it is left out"),
        Field(("reward",), "in [0, 1]; true is 1, false is 0. An expert's may be missing and is then 1"),
        Field(("success",), "true or false; an item that failed and states no reward is refused"),
        Field(
            ("meta",),
            "`reward`, `terminate_reason` and `error` of the authors' rollouts; the rest is ignored",
        ),
        Field(("icl_messages",), "number of leading messages that belong to the prompt"),
        Field(("prompt_messages",), "number of messages of the prompt, where it does not end by the rules"),
        *_SHOWN,
        _WHOLE,
        Field(("prompt",), "beside a conversation: accepted where it is the first user message"),
        Field(OUTCOMES, "refused unless `reward` is there as well: name the outcome `reward`"),
    ),
    refused=(
        *_REFUSED_IN_ITEMS,
        Field(
            ("history", "instruction", "input", "output", "completion", "completions", "response"),
            "put all of the conversation into `messages`",
        ),
        Field(
            (*CHOSEN, *REJECTED, "preferred_output", "non_preferred_output"),
            "this is a preference item: give the file to `eto dpo --pairs`",
        ),
    ),
    ignored=METADATA,
    unknown_ignored=True,
)

PAIR = Fields(
    "pair item",
    read=(
        Field(PROMPTS, "the prompt: messages, or a text of the user (`input` follows `instruction`)"),
        Field(("history",), "[question, answer] pairs before the prompt"),
        Field(("conversations", "messages"), "the prompt beside both sides; for ms-swift, prompt and chosen"),
        Field((*CHOSEN, "preferred_output"), "the better side: messages, a message, or a text of the agent"),
        Field((*REJECTED, "non_preferred_output"), "the worse side, likewise"),
        Field(("output",), "a list of two texts: better, worse"),
        *_TASK,
        Field(tuple(name for pair in SCORES for name in pair), "a chosen side with the lower one is refused"),
        *_SHOWN,
        _WHOLE,
    ),
    refused=(
        *_REFUSED_IN_ITEMS,
        Field(
            ("chosen_prompt", "rejected_prompt", "prompt_chosen", "prompt_rejected", "chosen_input",
             "rejected_input", "rejected_images"),
            "both sides must follow one `prompt`",
        ),
        Field(
            ("completion", "completions", "response", "responses"),
            "name the two sides `chosen` and `rejected`",
        ),
        Field(
            ("winner", "preference", "preferred", "better_response_id", "is_better", "swapped"),
            "name the better answer `chosen` and the worse `rejected`, and delete this field",
        ),
    ),
    ignored=(*METADATA, "meta", *OUTCOMES, "source", "reward", "success"),
    unknown_ignored=True,
)  # fmt: skip

MESSAGE = Fields(
    "message",
    read=(
        Field(("role", "from"), "who speaks: see the roles"),
        Field(("content", "value"), "text, or a list of text parts, which are joined; null beside a call"),
        Field(
            LOSS_FLAGS,
            f"false or 0: no loss on this turn, in cloning and on either side of a pair; {_ONLY_0_1}. "
            "On messages of other roles, asking for a loss is refused",
        ),
        Field(("tool_calls", "function_call"), "of the agent: calls; arguments an object or its JSON"),
        Field(("tool_call_id", "tool_use_id"), "of a tool: the call it answers"),
        Field(("name",), "of a tool: the function that answers; refused elsewhere"),
        Field(("reasoning_content", "reasoning", "thinking"), "of the agent: thoughts beside the text"),
    ),
    refused=(
        Field(
            ("images", "image", "videos", "audio", "audios", "image_url", "files", "attachments"),
            "delete the item: only text is trained",
        ),
        Field(("refusal",), "write the refusal as the message's content"),
        Field(("mask", "masked"), 'trainers mean opposite things by it: write "loss": false or true'),
        Field(
            ("train_detail", "train_details", "training_detail", "training_details", "loss_scale",
             "loss_weights", "step_loss_mask", "token_mask"),
            'loss falls on whole turns: mark a turn with "loss": false, or leave it whole',
        ),
        Field(("prefix", "partial", "end_turn", "channel", "recipient"), "write whole messages"),
        Field(("reasoning_details", "thinking_blocks"), "write the thoughts as reasoning_content"),
        Field(("token_ids", "logprobs", "tokens"), "give text: eto makes the ids"),
        Field(("tool_call", "tool_responses"), "write tool_calls, and role tool for the answers"),
    ),
    ignored=(
        *("meta", *METADATA, "id", "message_id", "parent_id", "index", "idx", "turn", "turn_id", "step"),
        *("time", "date", "created", "model", "type", "usage", "finish_reason", "stop_reason"),
        *("stop_sequence", "annotations", "cache_control", "is_error", "language", "lang", "num_tokens"),
        *("token_count", "cost", "latency", "rating", "score", "object", "status", "hash"),
    ),
    unknown_ignored=False,
)  # fmt: skip
