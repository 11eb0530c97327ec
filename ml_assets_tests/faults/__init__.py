"""Faults: what may go wrong around a run, each beside a twin without it, and the laws after both."""
