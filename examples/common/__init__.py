"""Options, data, models and pictures that several examples use."""
