"""Batches as prefix trees, token log-probabilities on them, and the one optimisation loop.

- `attention`: attention along the branches of trees
- `batches`: which trees pass together, group by group
- `checkpoint`: the state of training on disk
- `cloning`: `eto.sft`: behavioural cloning
- `critic`: an offline critic, and the update by its advantages
- `discriminator`: learning to tell the agent's actions from the expert's
- `dropout`: whether a model drops anything in training, and how to prevent it
- `example`: an example and its loss: what a step adds up
- `foresight`: learning the observation that follows an action
- `guard`: limits at which preference training stops
- `learned_optimiser`: Optim4RL: an optimiser that was learned, for adapters
- `learner`: a model that learns, is saved, and acts through its actors
- `log_probs`: token log-probabilities of trees
- `loop`: the one optimisation loop, resumable
- `memory`: memory that training will take, computed beforehand
- `meta_games`: bandits and a small game with tiny policies
- `meta_training`: learning an optimiser on them
- `optimiser`: AdamW, in 8 bits too, or a learned one, which may outlive a round
- `pair_examples`: pairs as examples: what of them a loss sees
- `pair_scores`: the log-prob of each turn of pairs
- `policy_gradient`: PPO on the agent's tokens of stored episodes
- `preference`: `eto.dpo`: DPO on whole trajectories
- `preference_checks`: settings without effect, given data and model
- `probe`: branches of a tree against a model's own forward pass
- `schedule`: learning-rate schedule
- `state`: weights and optimiser on disk, of one process or of many
- `unpaired`: preference training without pairs
"""
