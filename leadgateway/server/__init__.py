"""The web server: gunicorn's settings, its worker class, and the metrics of each web process."""
