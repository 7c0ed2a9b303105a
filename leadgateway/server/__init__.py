"""The web server: gunicorn's settings, its worker, and what each web process measures."""
