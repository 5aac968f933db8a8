"""Drop-in replacements for the recurrent layers of other frameworks: change one import, and keep the model and its weights."""
