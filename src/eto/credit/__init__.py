"""Which trajectories are contrasted, and which of their turns carry the contrast.

- `contrast`: trajectories to pairs, by reward
- `turn_weights`: which turns of a pair carry the contrast
"""
