"""Compares inference engines: what `benches/compare.py` is made of.

engines    one class for each engine, all with the same three methods
inputs     values for a model's inputs, the same for every engine
measure    blocks of inferences, one engine after the other
agreement  how far apart the outputs of two engines are
work       multiply-adds of a model, and what this machine can do of them
report     the table, and what is written to a file
"""
