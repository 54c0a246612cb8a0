"""The parts of the proxier: gRPC in front, the sessions' server processes behind.

Everything here runs on one asyncio loop and touches the sessions from it alone. What a session
does next is decided by :mod:`ray.util.client.session.proxied`.
"""
