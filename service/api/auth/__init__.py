"""Authentication and authorization: who asks, and what that caller may do."""
