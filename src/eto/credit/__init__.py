"""Which trajectories are contrasted, and which of their turns carry the contrast.

- `advantages`: rewards and advantages of single tokens
- `contrast`: trajectories to pairs, by reward
- `turn_weights`: which turns of a pair carry the contrast
"""
