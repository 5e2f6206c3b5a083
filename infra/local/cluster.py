"""A local cluster as a library: the command line and the end-to-end tests use the same one.

    with LocalCluster(Plan(data_dir=folder, orchestrators=2)) as cluster:
        cluster.url, cluster.kill("orchestrator-1")

Failures: whatever keeps it from coming up is a ClusterError, and nothing is left running. See
supervisor.py for parts that die later and state.py for a process that is killed while it holds one.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from infra.local.errors import ClusterError, PartError
from infra.local.keeper import Keeper
from infra.local.machine import free_port, port_is_free, port_owner, process_mark
from infra.local.plan import FIRST_GATEWAY, Plan, parts_for, settings_for
from infra.local.state import (
    Failure,
    Identity,
    PartRecord,
    Process,
    Running,
    end_leftovers,
    forget_running,
    held,
    load_identity,
    save_identity,
    save_running,
)
from infra.local.supervisor import Supervisor
from infra.local.tokens import make_token


class LocalCluster:
    """One cluster; started once and stopped once. `stop` may be called from any thread."""

    def __init__(self, plan: Plan) -> None:
        self.plan = replace(plan, data_dir=plan.data_dir.absolute())
        self._identity = Identity()
        self._resources = ExitStack()
        self._supervisor: Supervisor | None = None
        self._phase = "starting"
        self._recording = threading.Lock()

    def start(self) -> None:
        """Start every part and wait until all are ready. Raises ClusterError."""
        data_dir = self.plan.data_dir
        for folder, mode in ((data_dir, 0o755), (data_dir / "logs", 0o700)):
            folder.mkdir(mode=mode, parents=True, exist_ok=True)
        (data_dir / "ready").mkdir(exist_ok=True)
        with ExitStack() as undo:
            undo.enter_context(held(data_dir))
            end_leftovers(data_dir)
            forget_running(data_dir)
            try:
                self._bring_up()
            except BaseException as error:
                forget_running(data_dir)
                if isinstance(error, ClusterError):
                    self._record_failure(error)
                raise
            self._resources = undo.pop_all()

    def stop(self) -> None:
        """Stop every part; the data stay."""
        if self._supervisor is None:
            return
        self._phase = "stopping"
        self._supervisor.stop()
        forget_running(self.plan.data_dir)
        self._resources.close()

    def __enter__(self) -> LocalCluster:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The first gateway."""
        return self.urls[0]

    @property
    def urls(self) -> list[str]:
        """Every gateway, `api-1` first."""
        names = [name for name in self.plan.service_names if name.startswith("api-")]
        ports = [self.plan.gateway_port(name, self._identity) for name in names]
        return [f"http://127.0.0.1:{port}" for port in ports]

    @property
    def env(self) -> dict[str, str]:
        """The HEADWATER_ variables of a process that takes part."""
        return settings_for(self.plan, self._identity)

    @property
    def redis_url(self) -> str:
        return self.env["HEADWATER_REDIS_URL"]

    @property
    def database_url(self) -> str:
        return self.env["HEADWATER_DATABASE_URL"]

    @property
    def llm_base_url(self) -> str:
        return self.env["HEADWATER_LLM_BASE_URL"]

    @property
    def secret(self) -> str:
        """The HS256 key that signs tokens."""
        return self.env["HEADWATER_AUTH_SECRET"]

    def token(self, subject: str) -> str:
        """A JWT of that user."""
        return make_token(self.secret, subject)

    @property
    def supervisor(self) -> Supervisor:
        """Who keeps the parts; to hold one down, or to look at its restarts."""
        if self._supervisor is None:
            raise ClusterError("the cluster is not started")
        return self._supervisor

    def kill(self, name: str, sent: signal.Signals = signal.SIGKILL) -> None:
        """Signal a part's process. One that ends of it is started again."""
        self.supervisor.kill(name, sent)

    def pid(self, name: str) -> int:
        """The process that plays a part now. Raises ProcessLookupError when there is none."""
        return self.supervisor.pid(name)

    def _bring_up(self) -> None:
        self._identity = load_identity(self.plan.data_dir)
        self._choose_ports()
        parts = parts_for(self.plan, self._identity)
        save_identity(self.plan.data_dir, self._identity)
        self._supervisor = Supervisor(parts, self._record)
        self._supervisor.start()
        self._phase = "up"
        self._record(self._supervisor.keepers)

    def _choose_ports(self) -> None:
        port, host = self.plan.port, self.plan.host
        if port and not port_is_free(port, host):
            owner = port_owner(port)
            by_whom = f" by {owner}" if owner else ""
            raise PartError(
                FIRST_GATEWAY,
                f"port {port} is taken{by_whom}; choose another with HEADWATER_PORT=…",
            )
        ports = self._identity.ports
        for name in self.plan.own_ports:
            if name not in ports or not port_is_free(ports[name]):
                ports[name] = free_port()

    def _record(self, keepers: Sequence[Keeper]) -> None:
        with self._recording:  # the supervisor's thread and ours
            save_running(self.plan.data_dir, self._running([_part_record(one) for one in keepers]))

    def _record_failure(self, error: ClusterError) -> None:
        self._phase = "failed"
        running = self._running([])
        running.failure = Failure(message=str(error), log=error.log)
        save_running(self.plan.data_dir, running)

    def _running(self, parts: list[PartRecord]) -> Running:
        pid, known = os.getpid(), self._phase != "failed"
        return Running(
            supervisor=Process(pid=pid, mark=process_mark(pid)),
            phase=self._phase,
            url=self.url if known else "",
            env=self.env if known else {},
            parts=parts,
        )


def _part_record(keeper: Keeper) -> PartRecord:
    child = keeper.child
    runs = child is not None and child.exit_code() is None
    return PartRecord(
        name=keeper.part.name,
        kind=keeper.part.kind,
        state=keeper.state,
        process=Process(pid=child.pid, mark=child.mark) if child is not None and runs else None,
        since=keeper.since,
        ready_seconds=keeper.ready_seconds,
        restarts=keeper.restarts,
    )
