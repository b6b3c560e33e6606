"""Every implementation of a port is assigned to its shape, for mypy; running it proves that they exist."""

from __future__ import annotations

from typing import TYPE_CHECKING

from watchbill import ports
from watchbill.clock import Clock, Timeline
from watchbill.config.targetfiles import DiskFiles
from watchbill.net import MachineNetwork
from watchbill.net.http import HttpRequests
from watchbill.probes.execute import Executor
from watchbill.serve import offload
from watchbill.storage.duckdb import DuckDbStorage
from watchbill.storage.memory import MemoryStorage
from watchbill.testing import (
    FakeConfigFile,
    FakeConnection,
    FakeExecute,
    FakeHttp,
    FakeNetwork,
    ManualClock,
    inline,
)

if TYPE_CHECKING:

    def assigned(
        timeline: Timeline,
        manual: ManualClock,
        machine: MachineNetwork,
        network: FakeNetwork,
        connection: FakeConnection,
        memory: MemoryStorage,
        duck: DuckDbStorage,
        executor: Executor,
        execute: FakeExecute,
        file: FakeConfigFile,
        requests: HttpRequests,
        http: FakeHttp,
        nobody: ports.NoHttp,
        disk: DiskFiles,
        nothing: ports.NoFiles,
    ) -> tuple[object, ...]:
        clocks: list[Clock] = [timeline, manual]
        networks: list[ports.Network] = [machine, network]
        connections: list[ports.Connection] = [connection]
        storages: list[ports.Storage] = [memory, duck]
        checks: list[ports.CheckRepository] = [memory, duck]
        copies: list[ports.Copies] = [memory, duck]
        results: list[ports.ResultRepository] = [memory, duck]
        executes: list[ports.Execute] = [executor.execute, execute]
        loads: list[ports.LoadConfig] = [file.load]
        offloads: list[ports.Offload] = [inline, offload]
        clients: list[ports.HttpClient] = [requests, http, nobody]
        files: list[ports.Files] = [disk, nothing]
        return (
            files,
            clients,
            clocks,
            networks,
            connections,
            storages,
            copies,
            checks,
            results,
            executes,
            loads,
            offloads,
        )


def test_every_port_has_a_real_and_a_fake_implementation() -> None:
    for real, fake in (
        (Timeline, ManualClock),
        (MachineNetwork, FakeNetwork),
        (DuckDbStorage, MemoryStorage),
        (Executor, FakeExecute),
        (HttpRequests, FakeHttp),
    ):
        public = {name for name in vars(fake) if not name.startswith("_") and callable(getattr(fake, name))}
        missing = {name for name in public if not hasattr(real, name)}
        missing -= {"move", "monotonic"}  # a timeline is given its clock when it is made
        assert not missing, (real, missing)
