"""The problems that ship with ml_assets, one folder each."""
