"""Speed side by side with named peers: `make bench`, or one of them, `python -m benchmarks dpo --quick`."""
