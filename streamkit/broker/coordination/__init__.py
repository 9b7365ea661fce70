"""Coordinators: the rules that live on a replicated log, without the log."""
