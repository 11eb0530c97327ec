"""The product as its users meet it: processes, pages, packages."""
