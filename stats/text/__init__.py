"""Sentences about leads, events and incidents, made from stored codes and parameters."""
