"""Settings of engines that act outside this process."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from annotated_types import Ge
from pydantic import Field, field_validator

from eto.settings.base import Free, Most, Settings
from eto.settings.limits import Count, Names, NotNegative, Positive, Whole

EngineName = Literal["in_process", "server", "vllm", "ray", "chat"]

TAKEN = {"messages", "model", "stream"}
"""Fields of a chat request that no setting replaces: the conversation, who answers, and in which form."""
LEAST = 0.0001
"""Of a processor or a GPU that Ray reserves."""
_LONGEST = Most(2_592_000)  # 30 days, in seconds


class ClientSettings(Settings):
    """How a server is asked."""

    requests: Annotated[Count, Most(10_000), Free()] = 64
    """Requests under way at one server at the same time; others wait here."""
    seconds: Annotated[Positive, _LONGEST, Free()] = 600.0
    """Longest wait for one answer."""
    retries: Annotated[Whole, Most(100), Free()] = 4
    """Times a request is sent again after the connection failed or the server answered 5xx or 429; the pause
    before it doubles each time, from half a second."""


class ServerSettings(ClientSettings):
    """A server that somebody else started."""

    urls: Annotated[Names, Free()] = Field(min_length=1)
    """Addresses such as http://127.0.0.1:8000, without /v1; several serve the same model."""
    model: Annotated[str | None, Free()] = None
    """Name by which the servers serve it; null: the only one they list."""
    key_variable: Annotated[str | None, Free()] = None
    """Environment variable that holds the key; null: the server asks for none."""


class ChatSettings(ClientSettings):
    """A model behind a chat server, which takes and returns text: an expert, or a baseline."""

    url: Annotated[str, Free()]
    """Its address, such as https://api.example.com, without /v1."""
    model: str
    """The name by which it is asked for; also the agent's name."""
    key_variable: Annotated[str | None, Free()] = None
    """Environment variable that holds the key; null: the server asks for none."""
    body: dict[str, Any] = Field(default={})
    """Further fields of each request; null leaves one of ours out: {max_tokens: null,
    max_completion_tokens: 512}. Not `messages`, `model` and `stream`."""

    @field_validator("body")
    @classmethod
    def _can_be_sent(cls, body: dict[str, Any]) -> dict[str, Any]:
        if taken := sorted(TAKEN & body.keys()):
            raise ValueError(f"must leave {', '.join(taken)} to eto")
        try:
            json.dumps(body, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(
                "must hold what JSON has: text, numbers, true, false, lists, mappings"
            ) from error
        return body


class VllmSettings(ClientSettings):
    """vLLM servers that `eto` starts, watches and stops."""

    replicas: Annotated[Count, Most(1024), Free()] = 1
    """Servers; each holds the whole model."""
    devices_each: Annotated[Count, Most(64), Free()] = 1
    """GPUs of one server, where the machine has any (`--tensor-parallel-size`)."""
    packages: Annotated[Names, Free()] = Field(default=["vllm==0.33.0"])
    """What pip installs into the servers' own environment."""
    without: Annotated[list[str], Free()] = Field(default=[])
    """Dependencies that are removed from it again."""
    command: Annotated[Names | None, Free()] = None
    """Starts a server of your own installation, such as [/opt/vllm/bin/vllm, serve]; the model and the
    arguments follow. Null: an environment is built from `packages`."""
    arguments: Annotated[list[str], Free()] = Field(default=[])
    """Further arguments of each server; they come last and win."""
    environment: Annotated[dict[str, str], Free()] = Field(default={})
    """Further environment variables of each server. No keys: recipes are kept beside results."""
    start_seconds: Annotated[Positive, _LONGEST, Free()] = 900.0
    """Longest wait for a server to be ready."""
    restarts: Annotated[Whole, Most(1000), Free()] = 3
    """Times in a row, without an answer in between, that a server is started again."""


class RaySettings(Settings):
    """Replicas and simulators on a Ray cluster."""

    address: Annotated[str | None, Free()] = None
    """host:port of the cluster's head, or `auto` on one of its machines; null: the run starts one of this
    machine alone."""
    engine: Annotated[Literal["in_process", "server", "vllm"], Free()] = "in_process"
    """What acts in each replica, with the settings of `rollout.server` or `rollout.vllm`."""
    replicas: Annotated[Count, Most(1024), Free()] = 1
    """Actors that hold the whole model."""
    cpus_each: Annotated[float, Ge(LEAST), Most(1024), Free()] = 1.0
    """Processors that Ray reserves for a replica, and threads it computes with."""
    gpus_each: Annotated[NotNegative, Most(64), Free()] = 0.0
    """GPUs that Ray reserves for a replica."""
    simulators: Annotated[bool, Free()] = True
    """Whether simulators, `environment.workers` of them, run on the cluster too. They reserve nothing."""
    weights: Annotated[Literal["sent", "shared"], Free()] = "sent"
    """How nodes get weights: sent to each node once, or read from the run's directory, which they share."""
    object_store_mb: Annotated[Count, Most(1_000_000_000), Free()] = 512
    """Memory for weights under way in a cluster that is started here; beyond it Ray writes to the disk."""
    seconds: Annotated[Positive, _LONGEST, Free()] = 600.0
    """Longest wait for one answer; a replica that takes longer is started again."""
    start_seconds: Annotated[Positive, _LONGEST, Free()] = 300.0
    """Longest wait for a replica to find a place, start and take the weights."""
    restarts: Annotated[Whole, Most(1000), Free()] = 3
    """Times in a row, without an answer in between, that a replica is started again."""

    @field_validator("gpus_each")
    @classmethod
    def _can_be_reserved(cls, value: float) -> float:
        if 0 < value < LEAST or (value > 1 and value % 1):
            raise ValueError(f"must be 0, {LEAST:g} to 1, or a whole number above: Ray divides one GPU alone")
        return value
