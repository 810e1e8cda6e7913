"""Parameters, multiply-adds, latency and memory of detectors, and tables of them."""
