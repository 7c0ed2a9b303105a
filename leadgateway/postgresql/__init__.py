"""Django's PostgreSQL, with connections that keep to a thread's deadline."""
