"""Interfaces of other libraries over this package's public ones: programs change an import and go on."""
