"""Chats: which template a model has, its sandbox, and messages made what templates read."""
