"""The read-only HTTP interface: counts, recent, history, metrics and health."""
