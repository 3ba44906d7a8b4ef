"""For the tests of those who write handlers: run them as the engine does, without a broker.

    async with Kit.open(database_url, billing.stream) as kit:
        run = await kit.run([issued(1), issued(1)])           # one batch, one transaction
        assert run.keys == {"q:invoices:..."}
        assert run.repeats == 1

        await kit.run([issued(2)], crash=Crash.BEFORE_ACK)    # as if the worker were killed there
        await kit.recover()                                   # the broker delivers again, the sweeper sweeps

        await assert_converges(kit, events, ["invoices"])     # any order, repeats, crashes: one state
        await assert_lock_order(kit, events, {"invoices": "id"})

De-duplication, history and outbox are the engine's own, in a real PostgreSQL; the broker is a list. pytest
fixtures: `pytest_plugins = ["streams.testkit.fixtures"]`. docs/testing-handlers.md tells the rest.
"""

from streams.testkit.convergence import Diverged, assert_converges, play
from streams.testkit.kit import Crash, Kit, Recorder, Run
from streams.testkit.locks import assert_lock_order

__all__ = ["Crash", "Diverged", "Kit", "Recorder", "Run", "assert_converges", "assert_lock_order", "play"]
