"""ALFWorld (Shridhar et al. 2021, arXiv:2010.03768): household tasks in text.

- `dialect`: the two wordings of actions, and translation between them
- `experts`: one that searches, one that plans
- `files`: the original's game files
- `games`: a game, and the kinds there are
- `generated`: games by seed
- `house`: the state of a house, its actions and observations
- `problem`: a game's PDDL problem: facts and goal
- `scenes`: rooms and what fits where, from ALFWorld's wheel
- `suite`: its tasks, prompts and options
"""
