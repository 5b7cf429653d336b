"""A game: what it asks for, and the problem that describes its house."""

from __future__ import annotations

from dataclasses import dataclass

KINDS = (
    "pick_and_place_simple",
    "look_at_obj_in_light",
    "pick_clean_then_place_in_recep",
    "pick_heat_then_place_in_recep",
    "pick_cool_then_place_in_recep",
    "pick_two_obj_and_place",
)
PREPARING = {
    "pick_clean_then_place_in_recep": "clean",
    "pick_heat_then_place_in_recep": "heat",
    "pick_cool_then_place_in_recep": "cool",
}
"""What is to be done with the object before it is put down."""


@dataclass(frozen=True, slots=True)
class Game:
    """One game, ready to be played."""

    kind: str
    """One of `KINDS`."""
    thing: str
    """Type of the object it is about, such as `Apple`."""
    receptacle: str
    """Type of the receptacle it belongs in; "" with a lamp."""
    lamp: str
    """Type of the lamp to switch on; "" without one."""
    task: str
    """What the first observation asks for."""
    problem: str
    """PDDL."""
