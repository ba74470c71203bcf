"""Tools for testing: the conformance suite that every store must pass, in `conformance/`."""
