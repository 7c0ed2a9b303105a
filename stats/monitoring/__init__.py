"""Checks, incidents, alerts, heartbeats, metrics and hourly statistics."""
