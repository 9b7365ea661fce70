"""One file per family of APIs; each lists its `ROUTES`."""
