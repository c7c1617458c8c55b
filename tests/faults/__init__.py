"""Harnesses that try to break the promises: power cuts, kills, failing system calls, jumping clocks, bad inputs.

A checker that cannot fail proves nothing: each harness has a planted bug that it must find.
"""
