"""Optim4RL beside AdamW and sign descent: games it was learned on, others, and adapters of a small model.

    python -m benchmarks.learned_optimiser [--weights FILE] [--seeds 20]

Learning rates are chosen for every optimiser alike, on seeds of their own. Tables go to standard output, as
Markdown; one thread.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import eto
from benchmarks.page import table
from eto.environments.bandit.games import bernoulli, contextual, gaussian
from eto.environments.bandit.ratings import made_up
from eto.errors import EtoError
from eto.evaluation.statistics import mean_interval
from eto.training.cloning import sft_example
from eto.training.learned_optimiser import LearnedOptimiser, UpdateRule, load_rule
from eto.training.meta_games import Bandits, Game, Rooms, gradients, new_weights, sampled
from eto.types import Trajectory

RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
ADAPTER_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
UPDATES = 200
TUNING = 1000
"""Seed on which learning rates are chosen; those that count are others."""
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
Make = Callable[[Tensor, float], torch.optim.Optimizer]


def optimisers(rule: UpdateRule) -> dict[str, Make]:
    """By name."""
    signs = UpdateRule()
    with torch.no_grad():
        for value in signs.parameters():
            value.zero_()
    return {
        "Optim4RL": lambda weights, rate: LearnedOptimiser([weights], rule, rate),
        "sign descent (the rule at zeros)": lambda weights, rate: LearnedOptimiser([weights], signs, rate),
        "AdamW": lambda weights, rate: torch.optim.AdamW([weights], rate, weight_decay=0.0),
    }


def games(agents: int, seed: int) -> dict[str, Game]:
    """Those it was learned on, other instances, and those that are held out."""
    draw = np.random.default_rng([seed, 1])
    table_of, features = made_up(10, 5, seed).of_split("test")
    return {
        "Bernoulli bandit, 5 arms (learned on)": Bandits(lambda: bernoulli(5, "easy", 512, draw), agents),
        "Gaussian bandit, 5 arms (learned on)": Bandits(lambda: gaussian(5, "easy", 512, draw), agents),
        "rooms of 4 by 4 (learned on)": Rooms(agents, seed),
        "bandit with users, 10 films (held out)": Bandits(
            lambda: contextual(table_of, features, 1024, draw), agents
        ),
        "rooms of 6 by 6 (held out)": Rooms(agents, seed, side=6, steps=20),
    }


def learned(game: Game, make: Make, rate: float, seed: int) -> np.ndarray:
    """`[agents, updates]`: rewards in the course of learning."""
    random = torch.Generator().manual_seed(seed)
    weights = new_weights(game, game.agents, random).requires_grad_()
    optimiser, rewards = make(weights, rate), []
    for _ in range(UPDATES):
        played = game.play(sampled(game, weights, random))
        weights.grad = gradients(game, weights, played)
        optimiser.step()
        rewards.append(played.reward)
    return torch.stack(rewards, dim=1).numpy()


def compared(rule: UpdateRule, agents: int) -> Iterator[tuple[str, ...]]:
    """Rows: mean reward in the course of learning, and of its last tenth, with 95% intervals over agents."""
    for name in games(1, 0):
        found = {}
        for optimiser, make in optimisers(rule).items():
            tried = {r: learned(games(8, TUNING)[name], make, r, TUNING).mean() for r in RATES}
            rate = max(tried, key=lambda r: tried[r])
            found[optimiser] = rate, learned(games(agents, 0)[name], make, rate, 0)
        _, base = found["AdamW"]
        for optimiser, (rate, rewards) in found.items():
            whole, last = rewards.mean(axis=1), rewards[:, -UPDATES // 10 :].mean(axis=1)
            less = interval(whole - base.mean(axis=1)) if optimiser != "AdamW" else ""
            yield name, optimiser, f"{rate:g}", interval(whole), interval(last), less


def small_model(folder: Path, texts: Sequence[str]) -> Path:
    """Write an untrained Llama of 0.3 million weights, its tokenizer made of `texts`."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    words.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    )
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    words.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token=special[0], eos_token=special[2])
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(folder)
    size = {"hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=len(tokenizer), num_key_value_heads=2, **size, **ids)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def experts(rooms: int, split: str, count: int) -> list[Trajectory]:
    params = f"numLocations={rooms},includeDoors=0"
    suite = eto.load_suite("textworld-express", game="coin", params=params)
    return eto.collect_experts(suite, suite.tasks(split)[:count])


def adapters(weights: Path | None, seeds: int) -> Iterator[tuple[str, ...]]:
    """Rows: loss on 16 held-out experts of a game with four rooms after adapters have cloned 24, in nats a
    token of the agent, with 95% intervals over seeds. The model below has cloned the game of two rooms."""
    first, own, held = experts(2, "train", 32), experts(4, "train", 24), experts(4, "dev", 16)
    texts = [message.content for t in first + own for message in t.messages]
    texts += [text for t in first + own for turn in t.turns for text in (turn.action, turn.observation)]
    with tempfile.TemporaryDirectory() as folder:
        base = small_model(Path(folder), texts)
        whole = eto.load_learner(base, dtype="float32")
        eto.sft(whole, first, eto.SftSettings(epochs=10, learning_rate=2e-3, batch_size=8))
        whole.save(base)

        def loss(seed: int, **changes: Any) -> float:
            learner = eto.load_learner(base, dtype="float32", lora={"rank": 8, "alpha": 16.0})
            eto.sft(learner, own, eto.SftSettings(epochs=6, batch_size=4, **changes), seed=seed)
            scores = learner.score([sft_example(learner, trajectory).tree for trajectory in held])
            return -float(np.concatenate([leaf for leaves in scores for leaf in leaves]).mean())

        file = None if weights is None else str(weights)
        found: dict[str, np.ndarray] = {}
        for name, changes in (("AdamW", {}), ("Optim4RL", {"optimiser": "learned", "optimiser_file": file})):
            tried = {rate: loss(TUNING, learning_rate=rate, **changes) for rate in ADAPTER_RATES}
            rate = min(tried, key=lambda r: tried[r])
            found[name] = np.array([loss(seed, learning_rate=rate, **changes) for seed in range(seeds)])
            less = interval(found[name] - found["AdamW"]) if name != "AdamW" else ""
            yield name, f"{rate:g}", interval(found[name]), less


def interval(values: np.ndarray) -> str:
    of = mean_interval([float(value) for value in values])
    return f"{of.mean:.3f} [{of.low:.3f}, {of.high:.3f}]"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.learned_optimiser",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--weights", type=Path, metavar="FILE", help="default: the rule of the package")
    parser.add_argument("--seeds", type=int, default=20, help="agents of each game; default: 20")
    parser.add_argument("--adapter-seeds", type=int, default=8, help="trainings of adapters; default: 8")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        rule = load_rule(given.weights)
    except EtoError as error:
        sys.exit(f"error: {error}")
    head = ("game", "optimiser", "rate", "reward while learning", "reward at the end", "minus AdamW")
    print(table(head, list(compared(rule, given.seeds))), flush=True)
    print()
    print(
        table(
            ("optimiser", "rate", "loss", "minus AdamW"), list(adapters(given.weights, given.adapter_seeds))
        )
    )


if __name__ == "__main__":
    main()
