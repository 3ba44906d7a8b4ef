"""What happens: a module per event family, each with a `stream` of handlers, and the read side.

A family that is stored has two parts: values and how they are joined (`*_merge.py`, pure), and the
statements that lock, read and write them.
"""
