"""Learning the optimiser: games and their loss by hand, the derivative of an update, and that it helps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from eto.environments.bandit.games import bernoulli
from eto.errors import InputError
from eto.training import meta_training
from eto.training.learned_optimiser import HIDDEN, UpdateRule, load_rule
from eto.training.meta_games import (
    Bandits,
    Game,
    Rollout,
    Rooms,
    a2c_loss,
    gradients,
    new_weights,
    policy,
    sampled,
)
from eto.training.meta_training import Agents, main, meta_train


def bandits(agents: int = 4, seed: int = 0, arms: int = 3) -> Bandits:
    draw = np.random.default_rng(seed)
    return Bandits(lambda: bernoulli(arms, "easy", 64, draw), agents)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def new_rule(seed: int = 0) -> UpdateRule:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return UpdateRule()


def test_the_loss_by_hand():
    """Weights of 0: two arms of chance ½ and the value 0, so a return R costs R log 2 + R²/2 − 0.01 log 2."""
    game = bandits(1, arms=2)
    played = Rollout(
        inputs=torch.ones(1, 3, 1),
        actions=torch.tensor([[0, 1, 1]]),
        returns=torch.tensor([[2.0, 0.0, 99.0]]),
        valid=torch.tensor([[1.0, 1.0, 0.0]]),
        reward=torch.zeros(1),
    )
    weights = torch.zeros_like(new_weights(game, 1, generator()))
    log2 = float(np.log(2.0))
    expected = (2.0 * log2 + 2.0) / 2 - 0.01 * log2
    assert a2c_loss(game, weights, played).item() == pytest.approx(expected, rel=1e-5)


def test_agents_have_gradients_of_their_own_up_to_a_norm():
    game, random = bandits(3), generator()
    weights = new_weights(game, 3, random)
    played = game.play(sampled(game, weights, random))
    found = gradients(game, weights, played, max_norm=1e-3)
    assert found.norm(dim=1).tolist() == pytest.approx([1e-3] * 3, rel=1e-3)
    other = weights.clone()
    other[1] += 1.0
    assert torch.equal(gradients(game, other, played)[[0, 2]], gradients(game, weights, played)[[0, 2]])


def test_what_a_bandit_pays():
    game = bandits(2)
    best = [int(bandit.means[0].argmax()) for bandit in game._bandits]
    paid = [bandit.paid[:16, arm] for bandit, arm in zip(game._bandits, best, strict=True)]
    played = game.play(lambda inputs: torch.tensor(best)[:, None].expand(2, 16))
    assert played.returns.tolist() == np.stack(paid).tolist()
    assert played.reward.tolist() == [1.0, 1.0]
    later = game.play(lambda inputs: torch.tensor(best)[:, None].expand(2, 16))
    assert later.returns.tolist() != played.returns.tolist(), "the steps that follow"
    worst = [int(bandit.means[0].argmin()) for bandit in game._bandits]
    assert game.play(lambda inputs: torch.tensor(worst)[:, None].expand(2, 16)).reward.tolist() == [0.0, 0.0]


def test_rooms_by_hand():
    """A walk down and right through a square of two, whose goal is the last cell."""
    game = Rooms(1, 0, side=2, episodes=64, steps=3, discount=0.5)
    game._goals[0] = 3
    script = iter([1, 3, 0])  # down, right, up

    def act(inputs: torch.Tensor) -> torch.Tensor:
        return torch.full(inputs.shape[:2], next(script))

    played = game.play(act)
    starts = played.inputs[0, :64].argmax(dim=-1)
    assert set(starts.tolist()) == {0, 1, 2}, "never the goal"
    returns, valid = played.returns.view(3, 64), played.valid.view(3, 64)
    for start, first, last in ((0, 0.5, 0.0), (1, 1.0, 0.0), (2, 0.5, 0.0)):
        mine = starts == start
        assert set(returns[0, mine].tolist()) == {first}, start
        assert set(returns[2, mine].tolist()) == {last}
        assert set(valid[1, mine].tolist()) == {0.0 if start == 1 else 1.0}, "over once the goal is reached"
    assert played.reward.item() == pytest.approx(returns[0].mean().item())


def test_the_derivative_through_an_update(monkeypatch):
    """By hand: a move grows with exp(a₁) / √exp(a₂), so its derivative in the bias of a₁ is the move itself,
    in that of a₂ minus half of it; the loss's is its gradient at the moved weights times that."""
    monkeypatch.setattr(meta_training, "UPDATES", 1)
    rule, agents = new_rule(), Agents(bandits(), 10, 0)
    before = agents.weights.clone()
    agents.unroll(rule, 0.1)[0].backward()
    after = agents.weights
    again, random = bandits(), generator()
    new_weights(again, 4, random)
    again.play(sampled(again, before, random))
    played = again.play(sampled(again, after, random))
    slopes = gradients(again, after, played, max_norm=1e9) / 4  # of the mean over the agents
    along = (slopes * (after - before)).sum().item()
    assert rule.log_first.bias.grad.item() == pytest.approx(along, rel=1e-4)
    assert rule.log_second.bias.grad.item() == pytest.approx(-along / 2, rel=1e-4)
    assert abs(along) > 1e-3


def test_the_derivative_goes_through_all_updates():
    """Hidden states carry it: the recurrent weights have one from the second update on."""
    rule = new_rule()
    Agents(bandits(), 10, 0).unroll(rule, 0.1)[0].backward()
    assert all(float(value.grad.abs().sum()) > 0 for value in rule.parameters())


def test_agents_begin_anew_one_after_the_other():
    agents = Agents(bandits(4), 8, 0)
    agents.hidden += 1.0
    assert [agents.renew(number) for number in range(9)] == [[0], [], [1], [], [2], [], [3], [], [0]]
    assert float(agents.hidden.sum()) == 0.0
    many = Agents(bandits(4), 2, 0)
    assert [many.renew(number) for number in range(2)] == [[0, 1], [2, 3]], "more agents than iterations"


def final_reward(rule: UpdateRule, game: Game) -> float:
    """Of agents that the rule has updated 40 times."""
    random = generator(7)
    weights = new_weights(game, game.agents, random)
    hidden = torch.zeros(weights.numel(), 2 * HIDDEN)
    with torch.no_grad():
        for _ in range(40):
            played = game.play(sampled(game, weights, random))
            with torch.enable_grad():
                found = gradients(game, weights, played)
            moves, hidden = rule(found.flatten(), hidden)
            weights = weights + 3e-3 * moves.view_as(weights)
    return float(game.play(sampled(game, weights, random)).reward.mean())


def test_a_learned_rule_learns_faster_than_before():
    rule = new_rule()
    before = final_reward(rule, bandits(32, seed=5))
    assert len(list(meta_train(rule, [bandits()], 80, meta_rate=1e-2))) == 80
    assert final_reward(rule, bandits(32, seed=5)) > before + 0.1


def test_it_repeats():
    ended = []
    for _ in range(2):
        rule = new_rule()
        list(meta_train(rule, meta_training.training_games(2, 0), 3))
        ended.append(rule.digest())
    assert ended[0] == ended[1] != new_rule().digest()


def test_a_policy_is_near_uniform_at_first():
    game = Rooms(2, 0)
    log_probs, values = policy(game, new_weights(game, 2, generator()), torch.eye(16).expand(2, 16, 16))
    assert log_probs.exp().sum(-1).allclose(torch.ones(2, 16)) and values.abs().max() < 0.5
    assert (log_probs.exp() - 0.25).abs().max() < 0.15


def test_the_command_writes_a_rule(tmp_path: Path, capsys):
    file = tmp_path / "rule.safetensors"
    main(["--out", str(file), "--iterations", "2", "--agents", "1", "--meta-rate", "1e-3"])
    assert "iteration 2: loss" in capsys.readouterr().out
    load_rule(file)
    with safe_open(file, "pt") as written:
        facts = written.metadata()
    assert facts["iterations"] == "2" and facts["meta_rate"] == "0.001"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--iterations", "0"], "iterations"),
        (["--rate", "-1"], "rate"),
        (["--lifetime", "0"], "lifetime"),
        (["--agents", "0"], "--agents"),
    ],
)
def test_bad_arguments_are_told(arguments, says, tmp_path: Path, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--out", str(tmp_path / "rule.safetensors"), *arguments])
    assert says in str(caught.value) + capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_agents_that_diverge_are_told():
    rule = new_rule()
    with torch.no_grad():
        rule.log_first.bias.fill_(200.0)
    with pytest.raises(InputError, match="agents have diverged"):
        list(meta_train(rule, [bandits()], 2))
