"""Acting and simulating on a Ray cluster, for a run that keeps its store and trains here.

- `acting_node`: an engine on a node
- `cluster`: the connection, shared by the engine and the simulators
- `engine`: replicas with the same weights; one that is lost leaves its work to the others
- `greeting`: who an actor is, and its versions
- `replica`: one engine on the cluster, started again where it is lost
- `simulator_node`: a simulator's worker process on a node
- `simulators`: worker processes of a pool, on the cluster's nodes
- `weights`: weights in the object store, by their content
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eto.engines.opening import Needs
    from eto.engines.ray.engine import RayEngine
    from eto.settings import RolloutSettings


def open_engine(settings: RolloutSettings, needs: Needs) -> RayEngine:
    """The engine of replicas on a cluster, which start with the first weights.

    Raises `MissingRequirement` without the package, `InputError` where no cluster of its version answers.
    """
    from eto.engines.ray.cluster import Membership
    from eto.engines.ray.engine import RayEngine
    from eto.engines.ray.replica import RayReplica
    from eto.settings import RaySettings

    ray = settings.ray or RaySettings()
    membership = Membership(ray)
    replicas = [RayReplica(number, settings, ray, needs) for number in range(ray.replicas)]
    return RayEngine(replicas, membership, ray, max_context=needs.max_context)
