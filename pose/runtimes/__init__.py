"""Exported networks in the runtimes that execute them, one short module each; torch is imported where it is needed."""
