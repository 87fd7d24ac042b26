"""Poses of very many pictures: folders, lists and archives in parts, by several processes, into tables."""
