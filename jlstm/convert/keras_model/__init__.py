"""Keras's models: their descriptions, where their weights lie in files, and the layers that are made of both."""
