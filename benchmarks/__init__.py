"""How fast durablejobs is, measured beside the bare database and beside other queues: `python -m benchmarks --quick`.

Every figure is a ratio of two measurements of the same run, taken in turns: machines differ and are noisy, ratios hold.

    __main__.py      the command line
    environment.py   the environment that it makes for itself: the project, the peers, matplotlib
    targets.py       what is measured and what was promised
    sizes.py         how much of it: smoke, quick, full
    rows/            one file per family of measurements
    peers/           one file per other queue, all behind one small interface
    raw.py           the limit: a bare loop on the standard library's sqlite3
    processes.py     child processes: every measurement runs in fresh ones
    results.py       medians, ratios, verdicts, the JSON file
    table.py, pictures.py, summary.py   the outputs
"""
