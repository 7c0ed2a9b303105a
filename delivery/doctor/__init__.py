"""Looks at everything the gateway needs, and says what to do about what is not right."""
