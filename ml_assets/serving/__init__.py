"""Serving: the champion behind HTTP, exchanged when it changes, each answer logged before it is given."""
