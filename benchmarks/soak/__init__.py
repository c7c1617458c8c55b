"""The soak: a mixed load for as long as asked, with kills and pauses, watched, and judged in the end.

`python -m benchmarks.soak --minutes 30` has real workers and clients of the real command line on one database, and
does to them what happens to processes: SIGKILL, SIGSTOP for longer than the lease, SIGTERM. Clients write down what
they asked and what they were told, handlers when they began and were done; the rows are read while they change. What
all that came to is compared in the end, criterion by criterion. Linux only.
"""
