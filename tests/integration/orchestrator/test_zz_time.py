import time, sys
from tests.integration.orchestrator.conftest import *
async def test_x(bench, gateway):
    for _ in range(3):
        t=[time.monotonic()]
        async with bench.assembled() as w:
            t.append(time.monotonic()); await w.start(); t.append(time.monotonic())
            c=await gateway.ask(); await gateway.done(c); t.append(time.monotonic())
            await w.drain(); t.append(time.monotonic())
            await w.stop(); t.append(time.monotonic())
        t.append(time.monotonic())
        sys.__stderr__.write(str([round(b-a,3) for a,b in zip(t,t[1:])])+"\n")
