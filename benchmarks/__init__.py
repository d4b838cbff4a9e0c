"""Benchmarks, one file a question; each prints one JSON line a case, then a table."""
