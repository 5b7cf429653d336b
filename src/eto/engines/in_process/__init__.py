"""The engine that runs a transformers model in this process.

- `acting_model`: the weights an engine acts with
- `attention`: each conversation's new tokens against its own cache
- `conversation`: tokens and caches, and the prefixes that conversations share
- `decoder`: one step of many conversations
- `engine`: requests decoded together, step by step; new weights
- `ngram_drafter`: tokens drafted from earlier and experts' actions, verified by the model
- `probe`: two conversations against a model's own forward pass
- `sampling`: tokens and log-probs from logits
"""

from eto.engines.in_process.engine import InProcessEngine

__all__ = ["InProcessEngine"]
