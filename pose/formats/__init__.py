"""Annotations in other tools' formats: each is a module, :mod:`pose.formats.table` lists them."""
