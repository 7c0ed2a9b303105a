#!/usr/bin/env python
"""Runs the operators' commands; `manage.py help` lists them."""

import os
import sys

from django.core.management import execute_from_command_line

from leadgateway.startup import load_settings

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "leadgateway.settings")
    load_settings()
    execute_from_command_line(sys.argv)
