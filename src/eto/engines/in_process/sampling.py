"""From predictions to tokens and their log-probs."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from eto.engines.in_process.conversation import Conversation
from eto.engines.in_process.decoder import Predictions
from eto.protocols import Sampling


@dataclass(eq=False, slots=True)
class Continuation:
    """What is sampled after a conversation."""

    conversation: Conversation
    sampling: Sampling
    ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    """Under the distribution before temperature."""
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        if self.sampling.temperature > 0:
            self.generator = torch.Generator().manual_seed(self.sampling.seed)

    @property
    def stopped(self) -> bool:
        """Whether it ended with a stop token."""
        return bool(self.ids) and self.ids[-1] in self.sampling.stop

    def extend(self, predictions: Predictions) -> bool:
        """Append the next token and, as long as the guesses hold, those after it; True at the end.

        Tokens are the likeliest, or drawn at the temperature with a generator of the continuation's own,
        one draw a token, guessed or not. It ends with a stop token or after `max_tokens`.
        """
        conversation, sampling = self.conversation, self.sampling
        draft, conversation.draft = conversation.draft, []
        for row, likeliest in enumerate(predictions.likeliest):
            if self.generator is None:
                token, log_prob = likeliest, predictions.log_probs[row]
            else:
                token = self._draw(predictions.logits[row])
                log_prob = float(predictions.logits[row, token]) - predictions.totals[row]
            conversation.ids.append(token)
            self.ids.append(token)
            self.log_probs.append(log_prob)
            right = row < len(draft) and draft[row] == token
            conversation.cached += right
            if token in sampling.stop or len(self.ids) == sampling.max_tokens:
                return True
            if not right:
                break
        return False

    def _draw(self, logits: Tensor) -> int:
        probabilities = (logits.cpu() / self.sampling.temperature).softmax(-1)
        return int(torch.multinomial(probabilities, 1, generator=self.generator))
