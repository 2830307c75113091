"""Benchmarks. They print ratios from one interleaved run; a test never waits for a clock."""
