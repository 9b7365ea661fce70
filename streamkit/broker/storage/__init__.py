"""Logs on disk: the I/O shell around `broker.log`."""
