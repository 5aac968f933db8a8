"""Reading of Keras models: their configurations, the places of their weights in files, and the conversion of layers."""
