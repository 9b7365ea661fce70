"""The broker's I/O shell: sessions, handlers, partition actors and the node that composes them."""
