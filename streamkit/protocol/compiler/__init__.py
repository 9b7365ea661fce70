"""Writes the Python source of one codec: a function for each direction of a (message class, version).

Theory: almost all the time of a hand-written codec goes to calls, so the generated source makes few of them.
Nested structures are inlined. Neighbouring fixed-size values, the length of whatever follows them and empty
tag sections become one `struct` call (a *run*): while code is written, a run waits in `pending` until a value
of variable size forces it out. Runs take a varint as the one byte that nearly all lengths fit in. And where a
structure ends with values that are mostly absent (errors, tagged fields), a single test for all of them being
quiet leads to a single run.

The encoder appends to the bytearray at the end of a list of buffers; records join that list uncopied and a
fresh bytearray follows them. The decoder walks the data with one position: a memoryview where the message has
records, for these are slices of it, else a copy as bytes, which Python reads faster. It checks a declared
count against the bytes that are left over the least size of an element, before anything is made of it; reads
past the end are caught where `struct` and indexing raise.
"""
