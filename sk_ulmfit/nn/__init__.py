"""The network in torch; no file here knows scikit-learn, skorch or spaCy."""
