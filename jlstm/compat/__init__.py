"""Drop-ins for the layers of other frameworks: change one import, and keep the model."""
