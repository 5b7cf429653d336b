"""TRL's DPOTrainer and SFTTrainer as contestants: the same trajectories, model, dtype and steps as ours.

Nothing of TRL's work is changed but saving, reporting and progress bars, which are off, and its limit
of 1,024 tokens, which would cut trajectories. The model is loaded and the data tokenised before the
clock starts; a precomputation of the reference counts into the time.
"""

from __future__ import annotations

import os
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Read by TRL when it precomputes.
os.environ.setdefault("TQDM_DISABLE", "1")

import datasets
import torch
from accelerate.state import AcceleratorState
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from eto.data.formats import write_pairs
from eto.data.jsonfiles import read_items
from eto.tokens.rendering import Renderer
from eto.types import Pair, Trajectory

datasets.disable_progress_bars()

MARKED_CHATML = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, "
    "trained by Hugging Face<|im_end|>\n' }}"
    "{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}"
    "{{ '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""SmolLM2's chat template with the markers that `assistant_only_loss` needs; TRL knows none for it."""


@dataclass(frozen=True, slots=True)
class Trained:
    """One training by TRL."""

    seconds: float
    """Of `train()`, and of the reference's precomputation."""
    tokens: int
    """Tokens of TRL's own rows, an epoch."""
    loss_tokens: int
    """Tokens of those rows that carry loss."""
    losses: list[float]
    """Of each optimiser step."""
    gradient_norms: list[float]
    """Of each optimiser step, before clipping."""


class _QuietSFT(SFTTrainer):
    def _send_telemetry(self) -> None:
        pass


class _TimedDPO(DPOTrainer):
    """TRL's trainer, with a clock on its precomputation."""

    precomputing = 0.0

    def _send_telemetry(self) -> None:
        pass

    def _precompute_ref_logps(self, *args: Any, **kwargs: Any) -> Any:
        begun = time.perf_counter()
        found = super()._precompute_ref_logps(*args, **kwargs)
        self.precomputing += time.perf_counter() - begun
        return found


class _TrajectoryDPO(_TimedDPO):
    """Takes rows of ids and masks with holes; TRL's own preparation masks the prompt alone."""

    def _prepare_dataset(self, dataset: Any, *_args: Any, **_kwargs: Any) -> Any:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        sides = ("chosen", "rejected")
        self._signature_columns = [f"{side}_{part}" for side in sides for part in ("ids", "mask")]
        self._signature_columns += [f"ref_{side}_logps" for side in sides]


def train_dpo(
    model: Path,
    pairs: Sequence[Pair],
    *,
    bf16: bool,
    batch_pairs: int,
    masked: bool = False,
    precomputed: bool = False,
    checkpointing: bool = True,
    epochs: int = 1,
    **options: Any,
) -> Trained:
    """Preference training with the sigmoid loss; `options` go to `DPOConfig`.

    `masked` computes the loss on the agent's tokens alone, as we do; without it TRL counts
    the observations after the prompt too. `checkpointing` is TRL's default.
    """
    tokenizer = AutoTokenizer.from_pretrained(model)
    with tempfile.TemporaryDirectory() as folder:
        arguments = DPOConfig(
            **_common(folder, bf16, checkpointing),
            per_device_train_batch_size=batch_pairs,
            num_train_epochs=epochs,
            precompute_ref_log_probs=precomputed,
            max_length=None,
            **options,
        )
        rows = masked_rows(tokenizer, pairs) if masked else conversations(pairs, Path(folder))
        trainer = (_TrajectoryDPO if masked else _TimedDPO)(
            model=_load(model),
            args=arguments,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            data_collator=_collate if masked else None,
        )
        if precomputed and not trainer.precomputing:
            raise AssertionError("TRL precomputed no reference")
        return _train(trainer, trainer.precomputing)


def train_sft(
    model: Path,
    trajectories: Sequence[Trajectory],
    *,
    bf16: bool,
    packed_tokens: int | None,
    batch_size: int = 1,
    checkpointing: bool = True,
    **options: Any,
) -> Trained:
    """One epoch of cloning on the assistant's tokens; `options` go to `SFTConfig`.

    Rows are packed to `packed_tokens`, raised to the longest trajectory since TRL cuts what does
    not fit; None leaves a row to each trajectory. Raises AssertionError where the template with
    markers gives another text than the model's own.
    """
    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = [{"messages": messages(trajectory)} for trajectory in trajectories]
    texts = [tokenizer.apply_chat_template(row["messages"], tokenize=False) for row in rows]
    tokenizer.chat_template = MARKED_CHATML
    if texts != [tokenizer.apply_chat_template(row["messages"], tokenize=False) for row in rows]:
        raise AssertionError("the template with generation markers gives another text than the model's")
    longest = max(len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"])
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            **_common(folder, bf16, checkpointing),
            per_device_train_batch_size=batch_size,
            num_train_epochs=1,
            assistant_only_loss=True,
            packing=packed_tokens is not None,
            max_length=packed_tokens and max(packed_tokens, longest),
            **options,
        )
        trainer = _QuietSFT(
            model=_load(model),
            args=arguments,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
        )
        return _train(trainer, 0.0)


def messages(trajectory: Trajectory) -> list[dict[str, str]]:
    """The conversation up to the last action."""
    said = [{"role": each.role, "content": each.content} for each in trajectory.messages]
    for turn in trajectory.turns:
        said += [
            {"role": "assistant", "content": turn.action},
            {"role": "user", "content": turn.observation},
        ]
    return said[:-1]


def conversations(pairs: Sequence[Pair], folder: Path) -> list[dict[str, Any]]:
    """Rows as a user gets them from `eto pairs --format trl`."""
    path = folder / "pairs.jsonl"
    write_pairs(path, pairs, form="trl")
    return [item for _, item in read_items(path)]


def masked_rows(tokenizer: Any, pairs: Sequence[Pair]) -> list[dict[str, list[int]]]:
    """Our ids and masks of both sides."""
    renderer = Renderer(tokenizer)
    rows = []
    for pair in pairs:
        row = {}
        for side, trajectory in (("chosen", pair.chosen), ("rejected", pair.rejected)):
            rendered = renderer.render(trajectory)
            row[f"{side}_ids"], row[f"{side}_mask"] = list(rendered.ids), list(rendered.mask)
        rows.append(row)
    return rows


def _collate(rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Right-padded chosen rows, then rejected rows, as TRL's collator lays them out."""
    sides = [(row, side) for side in ("chosen", "rejected") for row in rows]
    longest = max(len(row[f"{side}_ids"]) for row, side in sides)

    def padded(column: Callable[[dict, str], list[int]]) -> torch.Tensor:
        filled = [column(row, side) for row, side in sides]
        return torch.tensor([each + [0] * (longest - len(each)) for each in filled])

    batch = {
        "input_ids": padded(lambda row, side: row[f"{side}_ids"]),
        "attention_mask": padded(lambda row, side: [1] * len(row[f"{side}_ids"])),
        "completion_mask": padded(lambda row, side: row[f"{side}_mask"]),
    }
    for name in ("ref_chosen_logps", "ref_rejected_logps"):
        if name in rows[0]:
            batch[name] = torch.tensor([row[name] for row in rows])
    return batch


def _common(folder: str, bf16: bool, checkpointing: bool) -> dict[str, Any]:
    warnings.filterwarnings("ignore", category=FutureWarning, module="trl|transformers")
    return {
        "output_dir": folder,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "logging_steps": 1,
        "use_cpu": not torch.cuda.is_available(),
        "dataloader_pin_memory": torch.cuda.is_available(),
        "bf16": bf16,
        # TRL's default is on.
        **({} if checkpointing else {"gradient_checkpointing": False}),
    }


def _load(model: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, use_safetensors=True)


def _train(trainer: Any, seconds: float) -> Trained:
    trainer.remove_callback(PrinterCallback)
    tokens, loss_tokens = _counted(trainer.train_dataset)
    begun = time.perf_counter()
    trainer.train()
    seconds += time.perf_counter() - begun
    # One state a process: TRL's autocasting must not reach who trains after it.
    AcceleratorState._reset_state(reset_partial_state=True)
    steps = [entry for entry in trainer.state.log_history if "grad_norm" in entry]
    return Trained(
        seconds,
        tokens,
        loss_tokens,
        [float(entry["loss"]) for entry in steps],
        [float(entry["grad_norm"]) for entry in steps],
    )


def _counted(dataset: Any) -> tuple[int, int]:
    """All tokens and those that carry loss of a dataset as TRL, or our subclass, prepared it."""
    tokens = loss_tokens = 0
    for row in dataset:
        if "labels" in row:
            tokens += len(row["input_ids"])
            loss_tokens += sum(label != -100 for label in row["labels"])
            continue
        for side in ("chosen", "rejected"):
            ids = row[f"{side}_ids"]
            tokens += len(ids) + len(row.get("prompt_ids", ()))
            loss_tokens += sum(row.get(f"{side}_mask", [1] * len(ids)))
    return tokens, loss_tokens
