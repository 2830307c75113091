"""Tests of vfio-hooks."""
