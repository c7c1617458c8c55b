"""The measurements: each file has a `measure(run)` that returns its rows of the table."""
