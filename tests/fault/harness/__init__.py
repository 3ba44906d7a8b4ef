"""The fault suite's parts, in the order in which a trial uses them:

place.py       private servers for the run; a database, virtual host and Redis database for each trial
nursery.py     a process that forks workers, updaters and APIs; points.py: where they kill themselves
fleet.py       those processes, seen from the trial: started, killed, kept alive, stopped
load.py        events of simulated agents, published with confirms through every fault; the ledger
readers.py     what readers ask for meanwhile, so that caches have something to keep stale
rest.py        waits until nothing is under way
checks.py      ledger against PostgreSQL, quarantine and caches: the counters
trial.py       all of that as one context
table.py       the counters as a table, JSON and docs/reliability.md
"""
