"""Behind authentication: every request is a sign of life of the device it names."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from litestar.types import ASGIApp, Receive, Scope, Send

from services.api.authentication import Caller
from services.api.devices import Devices


class DeviceTracking:
    def __init__(self, app: ASGIApp, devices: Devices) -> None:
        self._app, self._devices = app, devices

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller = cast("Caller | None", dict(scope).get("user"))  # OPTIONS is answered to everybody
        if caller is not None:
            await self._devices.seen(caller)
        await self._app(scope, receive, send)


def tracking(devices: Devices) -> Callable[[ASGIApp], ASGIApp]:
    """The middleware, bound to what it tells: the framework would copy that of a definition."""

    def middleware(app: ASGIApp) -> ASGIApp:
        return DeviceTracking(app, devices)

    return middleware
