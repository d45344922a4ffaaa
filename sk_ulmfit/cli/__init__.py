"""The command line: ``sk-ulmfit``."""
