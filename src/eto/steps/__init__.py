"""Steps of training methods: small functions over a `Lab`, each kept in a stage of its own.

Listed in `__init__.pyi`; loaded on first use, since methods are imported to read a recipe.

- `cloning`: an agent that imitates trajectories
- `continuing`: episodes that go on from given turns, and what they are worth
- `contrasting`: pairs of the expert's and the agent's trajectories
- `criticising`: values of stored episodes, and an update by them
- `disputing`: exploring where an ensemble's estimates differ
- `evaluating`: an agent on dev
- `exploring`: the agent's own episodes
- `foreseeing`: an agent that learns what the environment answers
- `improving`: a round of PPO on own episodes
- `judging`: own actions judged by a discriminator between agent and expert
- `needing`: whether own episodes give what a method learns from
- `nearing`: how near own episodes are to preferred ones
- `preferring`: preference training with dev checks
- `ranking`: own actions of a state by the best or the worst that may become of them
- `recalling`: successes of a memory, shown in prompts and rehearsed
- `separating`: what is desirable and what is not, without pairs
- `selecting`: the checkpoint that is best on dev
"""

from __future__ import annotations

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
