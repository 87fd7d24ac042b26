"""Drawing people: poses, bodies, things and the scenes made of them."""
