"""Watches the pipeline: figures in, incidents and alerts out."""
