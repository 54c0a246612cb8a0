"""The core of a Ray Client session: decisions without I/O, threads, clocks or Ray calls.

Shells (``worker``, ``dataclient``, ``server.proxier`` …) feed these modules what happened, take
what is to be done, and do it. Time and ids are arguments.
"""
