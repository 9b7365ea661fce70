"""Classic groups: the members divide the work among themselves."""
