"""A process that keeps the contract of a service and does nothing else, so it starts at once.

STANDIN_BROKEN names one that never gets ready but ends, after telling why; STANDIN_SILENT one that
runs and never gets ready; STANDIN_WORD is written to the log.
"""

import os
import signal
import sys
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TOUCH_SECONDS = 0.5


class Ready(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(os.environ["HEADWATER_REDIS_URL"].encode())


def play(kind: str) -> None:
    if os.environ.get("STANDIN_BROKEN") == kind:
        sys.exit(f"{kind}: the reason why it does not start")
    ending = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=ending.set).start())
    if kind == "api":
        server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["HEADWATER_PORT"])), Ready)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    ready = Path(os.environ["HEADWATER_READY_FILE"])
    sys.stdout.write(" ".join([kind, "plays", *os.environ.get("STANDIN_WORD", "").split()]) + "\n")
    sys.stdout.flush()
    while True:
        if os.environ.get("STANDIN_SILENT") != kind:
            ready.touch()
        if ending.wait(TOUCH_SECONDS):
            break
    with suppress(FileNotFoundError):
        ready.unlink()
