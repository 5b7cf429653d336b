"""Settings of a memory of trajectories: how it is addressed, and what is done with what is found."""

from __future__ import annotations

from typing import Annotated, Literal

from eto.settings.base import Most, Settings
from eto.settings.limits import Count, Positive, Whole


class RetrievalSettings(Settings):
    """Retrieving successes of all tasks and rounds."""

    addressing: Literal["learned", "return"] = "learned"
    """How a success is found for a task. learned: softmax of query and key, projections learned by REINFORCE;
    return: softmax of rewards, whatever the task (the paper's baseline)."""
    shown: Annotated[Whole, Most(10_000)] = 3
    """Episodes of each training task and round, besides those of `explore`, whose prompt shows a retrieved
    success of another task; 0: none."""
    shown_turns: Count = 20
    """Most turns of a success that a prompt shows, from its beginning."""
    rehearsed: Annotated[Whole, Most(10_000)] = 1
    """Successes retrieved for each training task and round, of any task, to be cloned too; 0: none."""
    return_temperature: Positive = 0.1
    """Of the softmax of rewards."""
    scale: Positive = 10.0
    """Factor of query times key. Paper's code: 10 to 50."""
    learning_rate: Positive = 0.01
    """Of the projections, by Adam. Paper: 1e-4, in many more steps."""
