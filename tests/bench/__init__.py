"""Measures the running system. Not tests: nothing here fails because a machine is slow."""
