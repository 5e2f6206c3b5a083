from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.local.state import load_running
from tests.integration.local.command_line import CommandLine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What this folder tests is the cluster of embedded servers."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.embedded)


@contextmanager
def command_line(folder: Path) -> Generator[CommandLine, None, None]:
    line = CommandLine(folder)
    yield line
    if load_running(line.data_dir) is not None:
        line.run("down")
    assert line.processes() == []


@pytest.fixture
def cluster(tmp_path: Path) -> Generator[CommandLine, None, None]:
    """To run commands with; Valkey is its one server, and whatever runs is stopped in the end."""
    with command_line(tmp_path) as line:
        yield line


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Generator[CommandLine, None, None]:
    """A cluster that is up, for tests that leave it so."""
    with command_line(tmp_path_factory.mktemp("standing")) as line:
        line.start_postgres()
        line.up()
        yield line
