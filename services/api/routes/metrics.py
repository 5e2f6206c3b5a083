"""/metrics, open to everybody who reaches it: it names nobody."""

from __future__ import annotations

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import SkipValidation
from prometheus_client import CONTENT_TYPE_LATEST

from services.api.metrics import Metrics


@get(
    "/metrics",
    summary="Figures for Prometheus",
    responses={
        200: ResponseSpec(
            str,
            media_type="text/plain",
            generate_examples=False,
            description="Prometheus' text format",
        )
    },
)
async def metrics_page(metrics: NamedDependency[SkipValidation[Metrics]]) -> Response[bytes]:
    return Response(await metrics.page(), media_type=CONTENT_TYPE_LATEST)


HANDLERS = [metrics_page]
