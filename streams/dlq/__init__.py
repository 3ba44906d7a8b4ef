"""What operators do with dead letters: look, replay, drop (`streams dlq`).

letter.py   one letter: the engine's, or one that the broker put there by itself
select.py   which letters are meant
browse.py   reads the queue in its order, without taking anything out
replay.py   sends letters back where they came from; drops letters
report.py   tables and JSON; text.py: nothing in a letter may reach a terminal as it is
"""
