"""Who leads a partition, who is in sync, and what is therefore committed; no I/O."""
