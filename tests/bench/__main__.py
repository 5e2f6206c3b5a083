"""`python -m tests.bench`: Headwater beside its floor, measured in one run.

Starts everything it needs, runs the measures one after the other and writes results.md,
results.json and a PNG for each measure into a folder. What is measured is written down at once: a
measure that fails, or the end of the time, costs only what comes behind.
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.bench import (
    cancelling,
    delivery,
    growth,
    large_archive,
    long_threads,
    memory,
    persisting,
    resume,
    startup,
    takeover,
    viewers,
)
from tests.bench.book import Book
from tests.bench.report import Result, say
from tests.bench.rig import Rig, rig
from tests.bench.sizes import SIZES, USUAL, Sizes

FOLDER = Path(".headwater-bench")
ON_ONE_RIG: Mapping[str, Callable[[Rig, Sizes], Result]] = {
    "startup": startup.startup,
    "unpaced": delivery.unpaced,
    "paced": delivery.paced,
    "resume": resume.resume,
    "viewers": viewers.viewers,
    "cancel": cancelling.cancelling,
    "memory": memory.memory,
    "streams": growth.streams,
    "threads": long_threads.threads,
    "persister": persisting.persisting,
    "archive": large_archive.archive,
}
WITH_THEIR_OWN: Mapping[str, Callable[[Sizes], Result]] = {
    "takeover": takeover.takeover,
    "partitions": growth.partitions,
}
MEASURES = (*ON_ONE_RIG, *WITH_THEIR_OWN)


def bench(sizes: Sizes, names: Sequence[str], folder: Path) -> None:
    """Run the named measures in their order; the folder then holds what they found."""
    book = Book(sizes, folder)
    if shared := [name for name in ON_ONE_RIG if name in names]:
        with rig(sizes.speeches) as built:
            for name in shared:
                book.add(name, partial(ON_ONE_RIG[name], built, sizes))
    for name in (name for name in WITH_THEIR_OWN if name in names):
        book.add(name, partial(WITH_THEIR_OWN[name], sizes))


@contextmanager
def bounded(seconds: float) -> Generator[None]:
    """Raises TimeoutError in the block when it takes longer."""

    def end(*_: object) -> None:
        raise TimeoutError(f"the bench has taken {seconds:.0f} s: what it has found is written")

    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default=USUAL.name)
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the results")
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=list(MEASURES))
    asked = parser.parse_args()
    sizes = SIZES[asked.size]
    with bounded(sizes.seconds_max):
        bench(sizes, asked.only, asked.out)
    say((asked.out / "results.md").read_text())


if __name__ == "__main__":
    main()
