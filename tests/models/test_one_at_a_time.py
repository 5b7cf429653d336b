"""Several threads load models: each is whole, and what `transformers` switches off is on again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

from tiny import save_tiny
from transformers import PreTrainedModel

from eto.models.loading import find_model, load_model


def test_loads_that_overlap_leave_models_tied(tmp_path: Path) -> None:
    """Without the lock the last of two loads puts back what the first had switched off: nothing is tied in
    this process any more, and nobody is told."""
    source = find_model(str(save_tiny(tmp_path / "tied", tie_word_embeddings=True)))
    ties = PreTrainedModel.tie_weights
    together = Barrier(4)

    def load(_: int) -> bool:
        together.wait()
        model = load_model(source, "cpu")
        return model.lm_head.weight is model.model.embed_tokens.weight

    try:
        with ThreadPoolExecutor(4) as threads:
            for _ in range(5):
                assert all(threads.map(load, range(4)))
        assert PreTrainedModel.tie_weights is ties
    finally:
        PreTrainedModel.tie_weights = ties
