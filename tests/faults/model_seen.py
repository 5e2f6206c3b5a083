"""What the scripted model has been asked for, and how far its answers have come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import aiohttp

from infra.local.cluster import LocalCluster


@dataclass(frozen=True)
class ModelSeen:
    """At one moment. A record is as `tests.support.model_statistics.Record`, newest last."""

    open_streams: int
    records: list[dict[str, Any]]

    @property
    def tokens(self) -> int:
        """Of the answers that are known one by one, those under way included."""
        return sum(record["tokens"] for record in self.records)

    def asked(self, model: str, *, outcome: str = "") -> list[dict[str, Any]]:
        """The requests for a model, or those of them that ended so."""
        return [
            record
            for record in self.records
            if record["model"] == model and outcome in ("", record["outcome"])
        ]


async def model_seen(cluster: LocalCluster) -> ModelSeen:
    """Ask the model server."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{cluster.llm_base_url}/stats") as response,
    ):
        found = await response.json()
    return ModelSeen(found["open_streams"], found["records"])
