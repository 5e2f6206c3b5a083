"""OpenAPI, and a page for it that loads nothing from elsewhere."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, cast

from litestar import Request, Response, Router, static_files
from litestar.exceptions import NotFoundException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from services.api.answer_fields import PAGE_POLICY
from services.api.document import TrueDocumentConfig

ASSETS_PATH: Final = "/schema/assets"
VERSION: Final = "0.1.0"
BEARER: Final = [{"bearer": list[str]()}]
_SCRIPT: Final = re.compile(rb"<script type='text/javascript'>(.*?)</script>", re.DOTALL)
_PAGE_MAY: Final = (  # Swagger UI styles its elements one by one, and draws its icons from data
    "default-src 'none'; connect-src 'self'; img-src 'self' data:;"
    " style-src 'self' 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def _assets() -> Path:
    """The folder of Swagger UI's files, which the wheel ships."""
    vendor = Path(str(files("swagger_ui_bundle"))) / "vendor"
    return next(vendor.glob("swagger-ui-*"))


def assets_route() -> Router:
    return cast("Any", static_files).create_static_files_router(
        path=ASSETS_PATH,
        directories=[_assets()],
        include_in_schema=False,
    )


class OwnPage(SwaggerRenderPlugin):
    """Swagger UI's, which may run what it says itself and nothing else."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        page: bytes = cast("Any", super()).render(request, openapi_schema)
        said = " ".join(
            f"'sha256-{b64encode(sha256(script).digest()).decode()}'"
            for script in _SCRIPT.findall(page)
        )
        request.scope["state"][PAGE_POLICY] = f"{_PAGE_MAY}; script-src 'self' {said}"
        return page

    def receive_router(self, router: Router) -> None:
        """Nobody logs in through the page: there is no place to come back to."""


def _refuse_unknown(response: Response[Any]) -> Response[Any]:
    """The framework has a page for what is not there. Raises NotFoundException instead."""
    if response.status_code == 404:
        raise NotFoundException()
    return response


def openapi_config() -> OpenAPIConfig:
    page = OwnPage(
        js_url=f"{ASSETS_PATH}/swagger-ui-bundle.js",
        css_url=f"{ASSETS_PATH}/swagger-ui.css",
        standalone_preset_js_url=f"{ASSETS_PATH}/swagger-ui-standalone-preset.js",
        favicon=f'<link rel="icon" href="{ASSETS_PATH}/favicon-32x32.png">',
        path="/",
    )
    schemes: dict[str, Any] = {
        "bearer": SecurityScheme(type="http", scheme="bearer", bearer_format="JWT"),
        "ticket": SecurityScheme(
            type="apiKey", security_scheme_in="query", name="ticket", description="one use, 30 s"
        ),
    }
    return TrueDocumentConfig(
        title="Headwater",
        version=VERSION,
        description="Durable, replayable answers: ask, follow, drop, resume at the exact event.",
        path="/schema",
        render_plugins=[page],
        openapi_router=Router(
            "/schema", route_handlers=[], include_in_schema=False, after_request=_refuse_unknown
        ),
        components=Components(security_schemes=schemes),
        use_handler_docstrings=False,
    )
