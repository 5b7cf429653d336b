"""Conversations as token ids and masks, and trajectories as prefix trees.

- `chat_template`: which template, its arguments and date fixed; messages to text
- `encoding`: text to ids; special tokens come from the template alone
- `fitting`: trajectories as tokens, cut to what a context holds
- `marked`: samples as text, those parts marked that carry loss
- `model_template`: the template of a model: chosen, probed, reported, saved with the agent
- `observations`: which tokens are an observation's own text
- `prefix_tree`: trajectories as prefix trees: shared tokens once
- `rendered`: a trajectory as token ids with its masks
- `rendering`: trajectory to token ids and loss mask; the only place of masks
- `talk`: a conversation as the agent reads it, turn by turn
- `turn_forms`: what the template puts around turns, measured with probes
- `turns`: one turn as the template writes it: thoughts, function calls
"""
