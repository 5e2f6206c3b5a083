"""One deployment for the session; `make test-compose` runs what is here, `make test` does not."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.compose.deployment import Deployment, deployed, why_not


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Generator[Deployment]:
    """A clean clone, up, and what `make up` has said in its file `said`."""
    if reason := why_not():
        pytest.skip(reason)
    with deployed(tmp_path_factory.mktemp("compose") / "clone") as running:
        (running.folder / "said").write_text(running.make("up"))
        yield running


@pytest.fixture(scope="session")
def scripted(deployment: Deployment) -> Deployment:
    """The same, answering from the scripted model server."""
    deployment.use_scripted_model()
    return deployment
