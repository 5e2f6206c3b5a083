"""A service that does as it is told and writes down every step: a process to send signals to.

    python -m tests.support.scripted_service '{"drain": "hang"}'

Each line of standard output is a step as it begins, or what became of it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

from shared import lifecycle
from shared.errors import DeploymentError
from shared.observability import configure_logging
from shared.settings import load_settings

DRAIN_SECONDS = 0.5
STOP_SECONDS = 0.5
TOUCH_SECONDS = 0.02


@dataclass(slots=True)
class ScriptedService:
    """`script` says of a step `ok` (the default), `raise`, `hang`, or of `failed` its reason."""

    script: dict[str, str] = field(default_factory=dict[str, str])
    ready_file: Path | None = None
    steps: list[str] = field(default_factory=list[str])

    async def start(self) -> None:
        await self._play("start")

    async def is_ready(self) -> bool:
        told = self.script.get("is_ready", "ok")
        if told == "raise":
            raise DeploymentError("not ready")
        return told == "ok"

    async def failed(self) -> str:
        if reason := self.script.get("failed"):
            return reason
        return await asyncio.Future[str]()

    async def drain(self) -> None:
        if self.ready_file is not None and self.ready_file.exists():
            self._tell("still looks ready")
        await self._play("drain")

    def hurry(self) -> None:
        self._tell("hurry")

    async def stop(self) -> None:
        await self._play("stop")

    async def _play(self, step: str) -> None:
        self._tell(step)
        told = self.script.get(step, "ok")
        if told == "raise":
            raise DeploymentError(f"{step} does not work")
        try:
            await asyncio.sleep({"hang": 3600.0, "slow": 0.3}.get(told, 0.0))
        except asyncio.CancelledError:
            self._tell(f"{step} cancelled")
            raise

    def _tell(self, step: str) -> None:
        self.steps.append(step)
        sys.stdout.write(f"{step}\n")
        sys.stdout.flush()


def main() -> int:
    script: dict[str, str] = json.loads(sys.argv[1])
    ready_file = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    lifecycle.STOP_SECONDS_MAX = STOP_SECONDS  # type: ignore[misc]  # tests do not wait long
    lifecycle.READY_TOUCH_SECONDS = TOUCH_SECONDS  # type: ignore[misc]
    configure_logging(load_settings(), service="scripted")
    service = ScriptedService(script, ready_file)
    run = lifecycle.run_service(
        service, ready_file=ready_file, drain_seconds=DRAIN_SECONDS, hurry=service.hurry
    )
    return asyncio.run(run)


if __name__ == "__main__":
    sys.exit(main())
