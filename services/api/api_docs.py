"""OpenAPI, and a page for it that loads nothing from elsewhere."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any, Final, cast

from litestar import Router, static_files
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

ASSETS_PATH: Final = "/schema/assets"
VERSION: Final = "0.1.0"
BEARER: Final = [{"bearer": list[str]()}]


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


def openapi_config() -> OpenAPIConfig:
    page = SwaggerRenderPlugin(
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
    return OpenAPIConfig(
        title="Headwater",
        version=VERSION,
        description="Durable, replayable answers: ask, follow, drop, resume at the exact event.",
        path="/schema",
        render_plugins=[page],
        components=Components(security_schemes=schemes),
        use_handler_docstrings=False,
    )
