"""Bandits in text (EVOLvE / BanditBench, arXiv:2410.06238): exploration with a known best answer.

- `episode`: answers in, what the arms paid out
- `figures`: regret and its curve, OptFrac, MinFrac, win rates
- `games`: what each arm is worth and pays at each step, drawn by seed
- `kinds`: task types by name
- `measured`: figures of trajectories
- `movielens`: a user's MovieLens files
- `oracles`: UCB, LinUCB, random pulls
- `prompts`: rules and history as text, in three forms
- `ratings`: ratings of films cut to low rank, made up or given
- `suite`: the task suite
"""
