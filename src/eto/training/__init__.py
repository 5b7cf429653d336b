"""Batches as prefix trees, token log-probabilities on them, and the one optimisation loop."""
