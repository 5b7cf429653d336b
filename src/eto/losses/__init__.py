"""Trajectory losses: pure functions of log-probabilities, each with its source.

- `cloning`: behavioural cloning
- `discriminator`: telling the agent's actions from the expert's
- `policy_gradient`: PPO's clipped objectives
- `preference`: DPO and its neighbours, each citing its equation
- `shapes`: checks of the shapes that all of them take
"""
