"""The engine that runs a transformers model in this process.

engine          requests, decoded together step by step; new weights
decoder         one step of many conversations
attention       each conversation's new tokens against its own cache
conversation    a conversation's tokens and cache; beginnings that conversations share
sampling        tokens and log-probs from logits
ngram_drafter   guesses of how an action goes on
weights         the model as it acts
probe           a model tried on a few tokens before it acts
"""

from eto.engines.in_process.engine import InProcessEngine

__all__ = ["InProcessEngine"]
