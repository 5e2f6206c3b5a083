"""`python -m tests.bench`: first token, cancel, tokens per second, CPU per token, 1 to 64 streams.

Starts a cluster and a model server that does not wait, runs each measure in turn, prints a table
and writes it as JSON. Bounded: about a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from infra.local.cluster import LocalCluster
from infra.local.plan import Plan
from tests.bench.cpu import CpuMeter
from tests.bench.streams import Answer, post
from tests.support.gateway_client import GatewayClient
from tests.support.model_process import model_process

SERVICES = ("valkey", "postgres", "persister-1", "orchestrator-1", "api-1")
FIRST_TOKEN_RUNS = 50
CANCEL_RUNS = 20
CANCEL_AT_SEQ = 10
TOKENS_PER_STREAM = 200
STREAMS_PER_LEVEL = {1: 20, 16: 96, 64: 192}


class Bench:
    def __init__(self, cluster: LocalCluster, model_url: str, model: str) -> None:
        self._cluster, self._model_url, self._model = cluster, model_url, model
        self._token = cluster.token("bench")

    async def ask(self) -> Answer:
        body = json.dumps({"query": "measure", "stream": True}).encode()
        url = f"{self._cluster.url}/v1/jobs"
        return await post(url, body, token=self._token, first_token=b"event: token")

    async def ask_model(self) -> Answer:
        request = {
            "model": self._model,
            "stream": True,
            "messages": [{"role": "user", "content": "measure"}],
        }
        url = f"{self._model_url}/chat/completions"
        return await post(url, json.dumps(request).encode(), first_token=b'"content":"t1 ')

    async def first_token(self) -> dict[str, float]:
        """Milliseconds from POST to first token, alternating with the bare model server."""
        own, whole = [], []
        for _ in range(FIRST_TOKEN_RUNS):
            own.append((await self.ask_model()).first_token_seconds * 1000)
            whole.append((await self.ask()).first_token_seconds * 1000)
        over = sorted(b - a for a, b in zip(own, whole, strict=True))
        return {
            "model_p50_ms": statistics.median(own),
            "headwater_p50_ms": statistics.median(whole),
            "over_p50_ms": statistics.median(over),
            "over_max_ms": over[-1],
        }

    async def cancel(self) -> dict[str, float]:
        """Milliseconds from asking to cancel until the model server has lost its connection."""
        took: list[float] = []
        async with GatewayClient(self._cluster.url, self._token) as client:
            for _ in range(CANCEL_RUNS):
                job = await client.ask("cancel me", agent="slow")
                async for event in client.events(job["job_id"]):
                    if event["seq"] == CANCEL_AT_SEQ:
                        break
                aborted = (await self._stats(client))["aborted"]
                asked = time.perf_counter()
                await client.call("POST", f"/v1/jobs/{job['job_id']}/cancel")
                while (await self._stats(client))["aborted"] == aborted:  # noqa: ASYNC110 -- a remote fact
                    await asyncio.sleep(0.001)
                took.append((time.perf_counter() - asked) * 1000)
                await client.follow(job["job_id"])
        return {"p50_ms": statistics.median(took), "max_ms": max(took)}

    async def _stats(self, client: GatewayClient) -> dict[str, Any]:
        async with client.session.get(self._model_url.removesuffix("/v1") + "/stats") as response:
            return await response.json()

    async def throughput(self, streams: int) -> dict[str, Any]:
        """Tokens per second delivered and CPU seconds per 10,000 of them."""
        total = STREAMS_PER_LEVEL[streams]
        slots = asyncio.Semaphore(streams)

        async def one() -> Answer:
            async with slots:
                return await self.ask()

        meter = CpuMeter({name: self._cluster.pid(name) for name in SERVICES})
        began = asyncio.get_running_loop().time()
        answers = await asyncio.gather(*(one() for _ in range(total)))
        seconds = asyncio.get_running_loop().time() - began
        await self._settled()
        tokens = sum(answer.tokens for answer in answers)
        assert tokens == total * TOKENS_PER_STREAM, f"{tokens} tokens of {total} streams"
        spent = meter.read()
        per_10k = {name: round(cpu / tokens * 10_000, 3) for name, cpu in spent.items()}
        return {
            "streams": streams,
            "tokens_per_second": round(tokens / seconds),
            "first_token_p50_ms": round(
                statistics.median(a.first_token_seconds for a in answers) * 1000, 1
            ),
            "events_per_stream": round(statistics.mean(a.events for a in answers), 1),
            "cpu_seconds_per_10k_tokens": round(sum(per_10k.values()), 3),
            "cpu_of": per_10k,
        }

    async def _settled(self) -> None:
        """Give the persister the time to take what it is behind: its work counts too."""
        await asyncio.sleep(0.5)


async def measure(cluster: LocalCluster, model_url: str, model: str) -> dict[str, Any]:
    bench = Bench(cluster, model_url, model)
    for _ in range(10):
        await bench.ask()
    result: dict[str, Any] = {"first_token": await bench.first_token()}
    result["cancel"] = await bench.cancel()
    result["throughput"] = [await bench.throughput(streams) for streams in STREAMS_PER_LEVEL]
    return result


def show(result: dict[str, Any]) -> None:
    first = {name: round(value, 2) for name, value in result["first_token"].items()}
    sys.stdout.write(f"first token, 1 stream: {first}\n")
    cancel = {name: round(value, 2) for name, value in result["cancel"].items()}
    sys.stdout.write(f"cancel until the model is let go: {cancel}\n")
    for row in result["throughput"]:
        sys.stdout.write(
            f"{row['streams']:>4} streams  {row['tokens_per_second']:>8} tokens/s"
            f"  first token {row['first_token_p50_ms']:>7} ms"
            f"  CPU {row['cpu_seconds_per_10k_tokens']:>6} s per 10k tokens  {row['cpu_of']}\n"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="also write the figures here, as JSON")
    parser.add_argument("--delay-ms", type=float, default=0, help="of the model, per token")
    asked = parser.parse_args()
    model = f"fake:tokens={TOKENS_PER_STREAM}"
    if asked.delay_ms:
        model += f",delay_ms={asked.delay_ms:g}"
    with tempfile.TemporaryDirectory(prefix="headwater-bench-") as folder, model_process() as url:
        agents = Path(folder) / "agents.json"
        slow = {"name": "slow", "model": "fake:tokens=500,delay_ms=10"}
        agents.write_text(json.dumps({"agents": [{"name": "default"}, slow]}))
        env = {
            "HEADWATER_LLM_MODEL": model,
            "HEADWATER_LOG_LEVEL": "WARNING",
            "HEADWATER_AGENTS_FILE": str(agents),
        }
        plan = Plan(data_dir=Path(folder), llm_base_url=url, env=env)
        with LocalCluster(plan) as cluster:
            result = uvloop.run(measure(cluster, url, model))
    show(result)
    if asked.out is not None:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
