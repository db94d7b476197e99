"""Calls of tools in what a model writes: found, read and given as they come; one row a format in formats.py."""
