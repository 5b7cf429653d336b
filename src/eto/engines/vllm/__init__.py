"""vLLM servers that this process starts, watches and ends.

- `guard`: a script that ends a server with whoever asked for it
- `installation`: vLLM's own virtual environment
- `process`: a server behind its guard
- `replica`: a server that is started again when it fails
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from eto.data.texts import counted
from eto.errors import InputError, MissingRequirement

if TYPE_CHECKING:
    from eto.engines.opening import Needs
    from eto.engines.server.engine import ServerEngine
    from eto.engines.vllm.replica import Start
    from eto.settings import RolloutSettings, VllmSettings

CPU_BATCH = 4096
"""Least tokens of a batch on a CPU."""


def open_engine(settings: RolloutSettings, needs: Needs) -> ServerEngine:
    """The engine of vLLM servers, installed here and started with the first weights.

    Raises `InputError` where its command is none, `MissingRequirement` where vLLM cannot be installed or
    there are fewer GPUs than asked for.
    """
    from eto.engines.server.engine import ServerEngine
    from eto.engines.vllm.installation import installed_python
    from eto.engines.vllm.replica import VllmReplica
    from eto.settings import VllmSettings

    vllm = settings.vllm or VllmSettings()
    cards = [_cards(vllm, number) for number in range(vllm.replicas)]
    command = vllm.command
    if command is None:
        python = installed_python(vllm.packages, vllm.without, say=needs.say)
        command = [str(python), "-W", "ignore", "-m", "vllm.entrypoints.openai.api_server", "--model"]
    elif shutil.which(command[0]) is None:
        hint = "correct it, or leave it out to have vLLM installed"
        raise InputError(f"{command[0]} is no program", where="rollout.vllm.command", hint=hint)
    replicas = []
    for number, devices in enumerate(cards):
        start = _start(command, vllm, needs, number, devices)
        replicas.append(VllmReplica(start, vllm, needs.max_context, needs.say))
    return ServerEngine(replicas, max_context=needs.max_context, vocabulary=needs.vocabulary)


def _start(
    command: list[str], vllm: VllmSettings, needs: Needs, number: int, devices: list[str] | None
) -> Start:
    from eto.engines.vllm.process import clean_environment
    from eto.engines.vllm.replica import Start

    options = ["--generation-config", "vllm", "--logprobs-mode", "raw_logprobs"]
    options += ["--dtype", needs.dtype, "--max-model-len", str(needs.max_context)]
    # New weights are read from files on the server's side, which only a server for development offers.
    variables = {"VLLM_SERVER_DEV_MODE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    if devices is None:
        # On a CPU a prompt that is read in pieces, sampled with a seed, kills the server.
        batch = max(needs.max_context, CPU_BATCH)
        options += ["--no-enable-chunked-prefill", "--max-num-batched-tokens", str(batch)]
    else:
        variables["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
        if len(devices) > 1:
            options += ["--tensor-parallel-size", str(len(devices))]
    environment = clean_environment(variables | vllm.environment)
    log = needs.directory / f"vllm-{number}.log"
    return Start(tuple(command), tuple(options), tuple(vllm.arguments), environment, log, devices is None)


def _cards(vllm: VllmSettings, number: int) -> list[str] | None:
    """The GPUs of server `number`; None on a machine without any."""
    from eto.machine import gpus

    if not (counts := [gpu["count"] for gpu in gpus()]):
        return None
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = named.split(",") if named else [str(card) for card in range(sum(counts))]
    first = number * vllm.devices_each
    if len(chosen := devices[first : first + vllm.devices_each]) < vllm.devices_each:
        raise MissingRequirement(
            f"{counted(vllm.replicas, 'server')} with {counted(vllm.devices_each, 'GPU')} each need more "
            f"than {counted(len(devices), 'GPU')} here",
            where="rollout.vllm.replicas",
            hint="lower rollout.vllm.replicas or rollout.vllm.devices_each",
        )
    return chosen
