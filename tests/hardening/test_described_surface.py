"""Every call of the OpenAPI document, tried by Schemathesis against the running services."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local.cluster import LocalCluster
from tests.style.sources import ROOT

EXAMPLES = 3  # of each call and kind, beside those that are made from the bounds in its schema
SEED = 20261121
TRIED_MIN = 500  # fewer mean that the document is not read as it should be
CONFIG = Path(__file__).with_name("schemathesis.toml")
HOOKS = "tests.hardening.surface_checks"


@pytest.mark.e2e
def test_the_gateway_does_what_its_document_says(
    cluster: LocalCluster, pytestconfig: pytest.Config, tmp_path: Path
) -> None:
    seed = pytestconfig.getoption("--surface-seed", None) or SEED
    examples = pytestconfig.getoption("--examples", None) or EXAMPLES
    command = [
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG),
        "run", f"{cluster.urls[0]}/schema/openapi.json",
        "--header", f"Authorization: Bearer {cluster.token('fuzz')}",
        "--seed", str(seed), "--max-examples", str(examples), "--no-shrink", "--no-color",
    ]  # fmt: skip
    env = os.environ | {"SCHEMATHESIS_HOOKS": HOOKS, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(  # in a folder where it may leave what it remembers
        command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    tried = re.search(r"(\d+) generated, \1 passed", run.stdout)
    assert tried, run.stdout
    assert int(tried[1]) >= TRIED_MIN
