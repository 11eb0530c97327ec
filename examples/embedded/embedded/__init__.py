"""A project with assets of its own, and a problem that predicts from them."""
