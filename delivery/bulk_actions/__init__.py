"""Redeliver, reprocess and resolve leads, one or many."""
