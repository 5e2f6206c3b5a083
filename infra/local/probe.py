"""Whether an HTTP server on this machine answers that it is well."""

from __future__ import annotations

from http.client import HTTPConnection, HTTPException

PROBE_SECONDS_MAX = 1.0


def http_ok(port: int, path: str) -> bool:
    """Whether GET `path` on a loopback port answers 200, soon."""
    link = HTTPConnection("127.0.0.1", port, timeout=PROBE_SECONDS_MAX)
    try:
        link.request("GET", path)
        return link.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        link.close()
