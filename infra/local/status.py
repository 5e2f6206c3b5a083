"""The parts of a running cluster as they are now: what was recorded, and what they answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from infra.local.part import PartState
from infra.local.plan import Plan, parts_for
from infra.local.state import PartRecord, Running, load_identity
from shared.settings import Settings

Probe = Callable[[], bool]

ENDED = "ended"
SILENT = "not answering"


def observe(running: Running, settings: Settings) -> list[PartRecord]:
    """Every recorded part, with its state corrected: `ended`, or `not answering`."""
    kinds = Counter(part.kind for part in running.parts)
    plan = Plan.from_settings(
        settings,
        apis=kinds["api"],
        orchestrators=kinds["orchestrator"],
        persisters=kinds["persister"],
    )
    parts = parts_for(plan, load_identity(plan.data_dir))
    probes = {part.name: part.ready for part in parts}
    return [_corrected(part, answers=probes.get(part.name, _unknown)) for part in running.parts]


def _unknown() -> bool:
    """A part this process's settings do not know of: only its supervisor's word counts."""
    return True


def _corrected(part: PartRecord, answers: Probe) -> PartRecord:
    if part.process is not None and not part.process.alive():
        return part.model_copy(update={"state": ENDED, "process": None})
    if part.state == PartState.READY and not answers():
        return part.model_copy(update={"state": SILENT})
    return part
