"""From an HTTP request to a stored lead."""
