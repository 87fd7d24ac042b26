"""A person detector of the project's own: boxes to maps and back, its network, its data, its training and its score."""
