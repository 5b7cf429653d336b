"""Which trajectories are contrasted, and which of their turns carry the contrast.

- `advantages`: rewards and advantages of single tokens
- `bounds`: own actions of a state, ranked by a bound of their worth
- `contrast`: trajectories to pairs, by reward
- `discriminator`: step rewards by a discriminator, and pairs by these
- `ensemble`: what an ensemble of estimates says of actions
- `groups`: groups of turns as pairs, and their curriculum
- `monte_carlo`: branches of an expert's trajectory, and pairs by what they are worth
- `similarity`: how near a trajectory is to preferred ones, and pairs by it
- `turn_weights`: which turns of a pair carry the contrast
"""
