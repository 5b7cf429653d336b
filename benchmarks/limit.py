"""How near training and acting come to what the machine can do at most.

Training: FLOP/s of cloning expert trajectories (forward, backward, clipping and optimiser as a whole)
against the fastest of several matrix products in the compute type, square ones and the model's own.
Counted is what the mathematics needs: 6 x the body's matrix weights for each token, 12 x layers x
width x visible context for attention, 6 x vocabulary x width for each predicted token; nothing that
is computed twice. After each optimiser step the products are measured again.

Acting: bytes that a step of one conversation must read (every weight once, and the key-value cache)
x steps a second, against the fastest read of a tensor far larger than the processor's caches.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import eto
from benchmarks.agent import prepared
from benchmarks.frame import Outcome, Ratio, alternate, median_ratio, rows
from benchmarks.machine import Peak, read_bytes_a_second
from eto.training.learner import Learner
from eto.types import Message, Trajectory

TRAINING, PRODUCTS = "training", "matrix products"
ACTING, TOGETHER, READING = "acting, 1 conversation", "acting, 32 conversations", "reading memory"
TRAINING_TARGET, ACTING_TARGET = 0.80, 0.60
ROWS, HEAD_ROWS = 2048, 512
"""Rows of the model-shaped products: tokens of a forward pass, and of a projection to the vocabulary."""
READ_BYTES = 1 << 30

Talk = Sequence[Message]


def run(quick: bool) -> Outcome:
    experts = prepared().experts
    experts = experts[:: max(1, len(experts) // (4 if quick else 12))]
    steps, repetitions = (12, 2) if quick else (48, 5)
    policy = eto.load_learner("embedded", drafting=False)
    same = check_count(policy)
    tales = [tale(experts[0], number) for number in range(32)]
    acting, speeds = measure_acting(policy, tales, repetitions, steps)
    peak = Peak(shapes(policy, 2048 if quick else 4096), policy.dtype, seconds=0.1 if quick else 0.4)
    training, seconds = measure_training(policy, experts, peak, repetitions)
    speeds[TRAINING] = [tokens_of(policy, experts) / each for each in seconds[1:]]
    length = tokens_of(policy, experts) // len(experts)
    notes = [
        f"Training: {len(experts)} trajectories an optimiser step. The first one, {seconds[0]:.1f} s with "
        "its allocations, is left out.",
        f"The fastest product is {peak.fastest}.",
        "Acting: steps of one token a conversation; those that read a prompt or an observation are left out.",
    ]
    return Outcome(
        title="Against the machine's limits",
        setting=f"SmolLM2-135M in {policy.dtype}, {torch.get_num_threads()} threads; training on "
        f"trajectories of {length} tokens, acting after {prompt_tokens(policy, tales[0])} tokens.",
        rows=rows(scaled(training, 1e-9), "GFLOP/s")
        + rows(scaled(acting, 1e-9), "GB/s")
        + rows(speeds, "tokens/s"),
        ratios=[
            Ratio(
                "FLOP/s, training over matrix products",
                median_ratio(training, TRAINING, PRODUCTS),
                TRAINING_TARGET,
            ),
            Ratio(
                "bytes/s, acting over reading memory", median_ratio(acting, ACTING, READING), ACTING_TARGET
            ),
        ],
        same=same,
        notes=notes,
    )


# -- training -----------------------------------------------------------------------------


def measure_training(
    policy: Learner, experts: Sequence[Trajectory], peak: Callable[[], float], repetitions: int
) -> tuple[dict[str, list[float]], list[float]]:
    """FLOP/s of training and of products in turn, and the seconds of all optimiser steps, the first too."""
    found: dict[str, list[float]] = {TRAINING: [], PRODUCTS: []}
    seconds: list[float] = []
    wanted = work(policy, experts)
    begun = time.perf_counter()

    settings = eto.SftSettings(epochs=repetitions + 1, batch_size=len(experts))
    for _ in eto.cloning(policy, experts, settings):
        seconds.append(time.perf_counter() - begun)
        if len(seconds) > 1:
            found[TRAINING].append(wanted / seconds[-1])
            found[PRODUCTS].append(peak())
            print(f"    training {found[TRAINING][-1]:.4g}, products {found[PRODUCTS][-1]:.4g}", flush=True)
        begun = time.perf_counter()

    return found, seconds


def work(policy: Learner, experts: Sequence[Trajectory]) -> float:
    """FLOPs of a forward and backward pass over `experts`, as this module's docstring counts them."""
    config = policy.model.config.get_text_config()
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    attention = 12 * config.num_hidden_layers * config.num_attention_heads * size
    head = policy.model.get_output_embeddings().weight.numel()
    total = 0
    for expert in experts:
        rendered = policy.renderer.render(expert, max_tokens=policy.max_context)
        tokens = len(rendered.ids)
        total += 6 * body_weights(policy) * tokens
        total += attention * tokens * (tokens + 1) // 2
        total += 6 * head * sum(rendered.mask)
    return float(total)


def body_weights(policy: Learner) -> int:
    """Weights of all matrices that every token passes: the model without embedding and vocabulary."""
    return sum(layer.weight.numel() for layer in linear_layers(policy))


def linear_layers(policy: Learner) -> list[nn.Linear]:
    return [layer for layer in policy.model.get_decoder().modules() if isinstance(layer, nn.Linear)]


def check_count(policy: Learner, tokens: int = 16) -> str:
    """Compare the count with torch's own of a forward pass. Raises AssertionError where they differ."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        hidden = policy.model.get_decoder()(
            input_ids=torch.ones(1, tokens, dtype=torch.long)
        ).last_hidden_state
        policy.model.get_output_embeddings()(hidden)
    found = counter.get_flop_counts()["Global"]
    seen = sum(flops for kind, flops in found.items() if kind in (torch.ops.aten.mm, torch.ops.aten.addmm))
    head = policy.model.get_output_embeddings().weight.numel()
    counted = 2 * tokens * (body_weights(policy) + head)
    if seen != counted:
        raise AssertionError(
            f"a forward pass of {tokens} tokens has {seen} FLOPs in its layers, not {counted}"
        )
    return "the FLOPs counted for the layers of a forward pass are those that torch's counter finds in it."


def shapes(policy: Learner, largest: int) -> list[tuple[int, int, int]]:
    """Square products, and those of a forward pass in training."""
    vocabulary, width = policy.model.get_output_embeddings().weight.shape
    return [
        *((size, size, size) for size in (1024, 2048, 4096) if size <= largest),
        *((ROWS, layer.in_features, layer.out_features) for layer in linear_layers(policy)),
        (HEAD_ROWS, width, vocabulary),
    ]


# -- acting -------------------------------------------------------------------------------


def measure_acting(
    policy: Learner, talks: Sequence[Talk], repetitions: int, steps: int, size: int = READ_BYTES
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Bytes a second of acting and of reading memory in turn, and acting's tokens a second."""
    speeds: dict[str, list[float]] = {ACTING: [], TOGETHER: []}
    wanted = bytes_of_step(policy, prompt_tokens(policy, talks[0]) + steps // 2)
    memory = torch.ones(int((size // 4) ** 0.5), int((size // 4) ** 0.5))

    def alone() -> float:
        speeds[ACTING].append(steps_a_second(policy, talks[:1], steps))
        return wanted * speeds[ACTING][-1]

    found = alternate({ACTING: alone, READING: lambda: read_bytes_a_second(memory)}, repetitions)
    for _ in range(repetitions):
        speeds[TOGETHER].append(len(talks) * steps_a_second(policy, talks, steps))
    return found, speeds


def steps_a_second(policy: Learner, talks: Sequence[Talk], steps: int) -> float:
    """Steps of one token each for all `talks`. Raises RuntimeError where an answer ends too soon."""
    actor = policy.actor("novelist")
    step, moments = actor.engine.decoder.step, []

    def timed(batch: list[Any]) -> list[Any]:
        predictions = step(batch)
        moments.append(time.perf_counter())
        return predictions

    async def write() -> None:
        dialogues = [actor.dialogue(messages, room=steps + 1) for messages in talks]
        turns = await asyncio.gather(*(each.act(actor.sampling(steps + 1)) for each in dialogues))
        if (shortest := min(len(turn.action_ids) for turn in turns)) <= steps:
            raise RuntimeError(f"an answer ended after {shortest} tokens, {steps} are to be measured")
        for dialogue in dialogues:
            await dialogue.close()

    actor.engine.decoder.step = timed
    try:
        asyncio.run(write())
    finally:
        actor.engine.decoder.step = step
    return steps / (moments[-1] - moments[0])  # the first step reads the prompts


def bytes_of_step(policy: Learner, context: int) -> int:
    """Bytes that a step of one conversation reads: the weights, and keys and values of `context` tokens."""
    config = policy.model.config.get_text_config()
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    weights = sum(weight.numel() for weight in policy.model.parameters())
    embedding, head = policy.model.get_input_embeddings().weight, policy.model.get_output_embeddings().weight
    if embedding is not head:
        weights -= embedding.numel()  # one row of it is read
    cache = 2 * config.num_hidden_layers * heads * size * context
    return (weights + cache) * policy.dtype.itemsize


# -- what is measured on ------------------------------------------------------------------


def tale(expert: Trajectory, number: int) -> Talk:
    """A request that is answered at length, over an episode's text."""
    log = "\n".join(f"> {turn.action}\n{turn.observation}" for turn in expert.turns)
    wish = f"Tell all of this as a story of a thousand words, with every detail. This is version {number}."
    return (Message("system", "You are a novelist."), Message("user", f"{log}\n\n{wish}"))


def prompt_tokens(policy: Learner, talk: Talk) -> int:
    return len(policy.renderer.prompt_ids(talk))


def tokens_of(policy: Learner, experts: Sequence[Trajectory]) -> int:
    return sum(len(policy.renderer.render(expert, max_tokens=policy.max_context).ids) for expert in experts)


def scaled(found: dict[str, list[float]], factor: float) -> dict[str, list[float]]:
    return {name: [factor * figure for figure in figures] for name, figures in found.items()}
