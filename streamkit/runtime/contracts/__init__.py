"""What a port promises, without saying who keeps the promise."""
