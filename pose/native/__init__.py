"""Layers for CPUs in C++, with no need of torch: sources, the library made of them, and programs of them."""
