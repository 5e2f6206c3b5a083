"""/healthz and /readyz, open to everybody."""

from __future__ import annotations

from typing import Any

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from services.api.health import Health


@get("/healthz", summary="The process answers", include_in_schema=True, exclude_from_auth=True)
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@get("/readyz", summary="Redis and Postgres answer and the gateway is not draining",
     exclude_from_auth=True)  # fmt: skip
async def readyz(health: NamedDependency[SkipValidation[Health]]) -> Response[dict[str, Any]]:
    problems = await health.problems()
    body = {"status": "not ready" if problems else "ready", "problems": problems}
    return Response(body, status_code=503 if problems else 200)


HANDLERS = [healthz, readyz]
