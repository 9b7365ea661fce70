"""The operators of a topology, one in each file: what each means, and the lines it writes into the
fused loop.
"""
