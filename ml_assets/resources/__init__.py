"""Where things are kept: the home folder, the lake of tables and files, the ledger, the registry."""
