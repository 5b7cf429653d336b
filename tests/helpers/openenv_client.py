"""`python openenv_client.py ADDRESS`: plays over the OpenEnv protocol with the clients of that package.

Reads {"seed": ..., "actions": [...]} as JSON, prints what each client was told. Runs where the package is
installed, which may be another Python than the tests'.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from openenv.core import GenericEnvClient


def shown(result: Any) -> list[Any]:
    return [result.observation["text"], result.reward, result.done, result.metadata]


def play_sync(address: str, seed: int, actions: list[str]) -> dict[str, Any]:
    with GenericEnvClient(base_url=address).sync() as client:
        steps = [shown(client.reset(seed=seed, episode_id="of the client"))]
        steps += [shown(client.step({"message": action})) for action in actions]
        state = client.state()
        faults = []
        for call in (lambda: client.reset(seed=-1), lambda: client.step({"text": "no such field"})):
            try:
                call()
            except RuntimeError as error:
                faults.append(str(error))
        other = client.new_session()
        others = shown(other.reset(seed=seed + 1))
        again = shown(client.reset(seed=seed))
    return {"steps": steps, "state": state, "faults": faults, "others": others, "again": again}


async def play_async(address: str, seed: int, actions: list[str]) -> list[Any]:
    async with GenericEnvClient(base_url=address) as client:
        steps = [shown(await client.reset(seed=seed))]
        return steps + [shown(await client.step({"message": action})) for action in actions]


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    told = play_sync(sys.argv[1], **asked) | {"async": asyncio.run(play_async(sys.argv[1], **asked))}
    print(json.dumps(told))
