"""mrigen beside its peers: `python -m benchmarks` measures, on this machine, in one run, and writes a table."""
