"""`python -m ml_assets.command` is `ml-assets`."""

from ml_assets.command import main

main()
