"""The rules of a partition's log, pure: what to append, where to look, what to trust after a crash."""
