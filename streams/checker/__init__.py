"""Are the caches consistent, seen from outside? In the spirit of Meta's Polaris.

The checker hears what is invalidated, reads it through the HTTP API as a client would, and compares with
the database: after 0.1, 1 and 10 s the answer must not be older than what was invalidated. It knows HTTP,
AMQP, SQL and the schemas, and nothing of how caches work. What it does, and why its verdicts hold, is in
docs/consistency.md.

    subjects.py   which paths of the API an invalidation concerns
    ear.py        hears invalidations; tells when all that was announced has been heard
    rows.py       what the API must answer, read from the primary by SQL of our own
    judge.py      an answer against readings: consistent, stale, or inconclusive (pure)
    sampling.py   which of the many are looked at (bounded)
    monotonic.py  answers that go back in time
    tally.py      counts, and the report
    watch.py      puts it together
"""
