"""Clients that write and read with unique values, and what must be true of everything that they were told."""
