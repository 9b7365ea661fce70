"""The ports through which every shell reaches the world, and their bindings.

`contracts` says what a port promises and is all that the pure packages may know of the world; `os` binds
the ports to asyncio and the operating system. Threads live inside the bindings and nowhere else.
"""
