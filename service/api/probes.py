"""The addresses at which load balancers and supervisors ask how the service is."""

PROBES = frozenset({"/healthz", "/readyz"})
"""Answered for any Host, as they are called by address, and before all that waits; they tell nothing."""
