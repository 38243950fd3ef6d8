"""Hostile models, files, tensors and callers: each is answered with an exception of the runtime, never with a crash.

Whatever may kill or stop a process runs in a process of its own.
"""
