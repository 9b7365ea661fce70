"""A broker among others: its registration, its way to the controller, what it knows of the cluster."""
