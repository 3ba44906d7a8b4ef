"""The baseline: a plain FastStream service that does the same work, one event at a time.

Written as its users write it and no worse: quick settings, prepared statements, a pool, several messages at
once. It does without what is ours: batches, outbox, quarantine, and scores that survive a
repeat after the window.
"""
