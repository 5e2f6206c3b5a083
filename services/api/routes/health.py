"""/healthz and /readyz, open to everybody."""

from __future__ import annotations

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import SkipValidation

from services.api.health import Health
from services.api.schemas import HealthView, ReadinessView


@get("/healthz", summary="The process answers")
async def healthz() -> HealthView:
    return HealthView()


@get(
    "/readyz",
    summary="Redis and Postgres answer and the gateway is not draining",
    responses={
        503: ResponseSpec(ReadinessView, generate_examples=False, description="What is missing")
    },
)
async def readyz(health: NamedDependency[SkipValidation[Health]]) -> Response[ReadinessView]:
    problems = await health.problems()
    view = ReadinessView(status="not ready" if problems else "ready", problems=problems)
    return Response(view, status_code=503 if problems else 200)


HANDLERS = [healthz, readyz]
