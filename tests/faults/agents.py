"""The agents of the suite's cluster: how the scripted model answers whom."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

AGENTS = {
    "quick": "fake:tokens=20",
    "slow": "fake:tokens=150,delay_ms=15",
    "long": "fake:tokens=600,delay_ms=15",
    "steady": "fake:tokens=60,delay_ms=10",
    "steady-long": "fake:tokens=300,delay_ms=15",
    "flood": "fake:tokens=50000,delay_ms=1,per_write=50",
    "drip": "fake:tokens=60,delay_ms=100",
    "echo": "fake:echo",
    "reluctant": "fake:tokens=400,first_ms=4000,delay_ms=15",
    "hesitant": "fake:tokens=150,first_ms=1000,delay_ms=15",
    "silent-once": "fake:tokens=400,delay_ms=15,hang_after=5,times=1",
}


def write_agents(path: Path, models: Mapping[str, str] = AGENTS) -> None:
    """The file that HEADWATER_AGENTS_FILE names."""
    agents = [{"name": name, "model": model} for name, model in models.items()]
    path.write_text(json.dumps({"agents": agents}))
