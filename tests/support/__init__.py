"""Helpers of the tests: small data, networks and runs, oracles, faults and fuzz."""
